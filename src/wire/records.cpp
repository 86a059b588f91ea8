// SPDX-License-Identifier: Apache-2.0
#include "wire/records.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>

#include "wire/records.pb.h"

namespace holdfast::wire {
namespace {

enum class Kind : std::uint8_t { none, uint32_, uint64_, int64_, bool_, bytes_, string_, message_ };

struct FieldShape {
  std::string_view message;
  std::uint32_t number;  // 0: the message's own row, which its fields follow
  Kind kind;
  bool repeated;
  std::string_view nested;
};
constexpr FieldShape kShapes[] = {
#include "wire/shapes.inc"
};
constexpr int kDepthMax = 8;
constexpr std::string_view kPackage = "holdfast.wire.";

using Fields = std::span<const FieldShape>;

// The rows of one message; empty for a message that is not in our .proto files.
Fields fields_of(std::string_view message) {
  const auto* const all_end = std::end(kShapes);
  for (const auto* row = std::begin(kShapes); row != all_end; ++row) {
    if (row->number != 0 || row->message != message) continue;
    const auto* end = row + 1;
    while (end != all_end && end->number != 0) ++end;
    return {row + 1, end};
  }
  return {};
}

const FieldShape* find(Fields fields, std::uint64_t number) {
  for (const FieldShape& f : fields)
    if (f.number == number) return &f;
  return nullptr;
}

bool is_length_delimited(Kind kind) {
  return kind == Kind::bytes_ || kind == Kind::string_ || kind == Kind::message_;
}

// Zero is never written (proto3), so a zero here is a second encoding.
bool is_canonical_number(Kind kind, std::uint64_t value) {
  switch (kind) {
    case Kind::uint32_:
      return value != 0 && value <= UINT32_MAX;
    case Kind::bool_:
      return value == 1;
    default:
      return value != 0;
  }
}

// All that a `string` holds here (free text of users is `bytes`). protobuf would want UTF-8, and
// complain on stderr.
bool is_printable(std::byte b) { return b >= std::byte{0x20} && b < std::byte{0x7F}; }

Result<> check_message(ByteSpan bytes, std::string_view what, std::string_view name, int depth);

Result<> check_value(Reader& in, std::string_view what, const FieldShape& field, int depth) {
  const auto bad = [&](std::string_view why) {
    return fail(Code::corrupt,
                fmt::format("{}: field {} of {} {}", what, field.number, field.message, why));
  };
  if (!is_length_delimited(field.kind)) {
    const std::uint64_t value = in.varint();
    if (!in.ok() || !is_canonical_number(field.kind, value)) return bad("is not a number in form");
    return {};
  }
  const ByteSpan inner = in.block(kRecordMax);
  if (!in.ok()) return bad("is cut short");
  if (field.kind == Kind::message_) return check_message(inner, what, field.nested, depth + 1);
  if (inner.empty() && !field.repeated) return bad("is there and empty");
  if (field.kind == Kind::string_ && !std::ranges::all_of(inner, is_printable))
    return bad("is not printable ASCII");
  return {};
}

Result<> check_message(ByteSpan bytes, std::string_view what, std::string_view name, int depth) {
  if (depth > kDepthMax) return fail(Code::corrupt, fmt::format("{}: nested too deeply", what));
  const Fields fields = fields_of(name);
  Reader in(bytes);
  std::uint64_t last = 0;
  while (in.left() > 0) {
    const std::uint64_t tag = in.varint();
    const FieldShape* field = find(fields, tag >> 3);
    if (!in.ok() || field == nullptr)
      return fail(Code::corrupt,
                  fmt::format("{}: {} has a field {} that this version does not know", what, name,
                              tag >> 3));
    const std::uint64_t wire_type = is_length_delimited(field->kind) ? 2 : 0;
    const bool ascends = field->number > last || (field->number == last && field->repeated);
    if ((tag & 7) != wire_type || !ascends)
      return fail(Code::corrupt,
                  fmt::format("{}: field {} of {} is out of order, twice there or of "
                              "another type",
                              what, field->number, name));
    last = field->number;
    HF_TRY(check_value(in, what, *field, depth));
  }
  return {};
}

}  // namespace

Result<> parse_into(ByteSpan bytes, std::string_view what, google::protobuf::MessageLite& out) {
  if (bytes.size() > kRecordMax)
    return fail(Code::corrupt, fmt::format("{}: {} bytes, more than a record has (at most {})",
                                           what, bytes.size(), kRecordMax));
  const std::string name = out.GetTypeName();
  assert(name.starts_with(kPackage));
  HF_TRY(check_message(bytes, what, std::string_view(name).substr(kPackage.size()), 0));
  if (!out.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())))
    return fail(Code::corrupt, fmt::format("{}: not a record", what));
  return {};
}

Bytes encode(const google::protobuf::MessageLite& message) {
  Bytes out(message.ByteSizeLong());
  [[maybe_unused]] const bool ok =
      message.SerializeToArray(out.data(), static_cast<int>(out.size()));
  assert(ok);
  return out;
}

Bytes sign_record(std::string_view purpose, ByteSpan body, const Signer& signer) {
  Signed record;
  record.set_body(to_field(body));
  record.set_signature(to_field(signer.sign(Transcript(purpose).field(body)).span()));
  return encode(record);
}

Result<SignedRecord> read_unverified(std::string_view what, ByteSpan record) {
  HF_ASSIGN(const Signed parsed, parse_record<Signed>(record, what));
  HF_ASSIGN(const Signature signature, id_field<Signature>(parsed.signature(), what));
  const ByteSpan body = as_bytes(parsed.body());
  return SignedRecord{Bytes(body.begin(), body.end()), signature};
}

bool verify_record(std::string_view purpose, const SignedRecord& record, const SignPublicKey& key) {
  return verify(key, Transcript(purpose).field(record.body), record.signature);
}

Result<Bytes> open_record(std::string_view purpose, std::string_view what, ByteSpan record,
                          const SignPublicKey& key) {
  HF_ASSIGN(SignedRecord read, read_unverified(what, record));
  if (!verify_record(purpose, read, key))
    return fail(Code::corrupt,
                fmt::format("{}: its signature is not of the key {}", what, key.hex()));
  return std::move(read.body);
}

}  // namespace holdfast::wire
