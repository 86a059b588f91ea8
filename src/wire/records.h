// SPDX-License-Identifier: Apache-2.0
// Strict reading of protobuf records, and signed records. The generated classes (records.pb.h,
// chain.pb.h) are included only by .cpp files that build or read records.
#pragma once

#include <string_view>

#include "base/bytes.h"
#include "crypto/sign.h"

namespace google::protobuf {
class MessageLite;
}

namespace holdfast::wire {

// Above it a record is refused before it is parsed. The largest honest one is a head.
inline constexpr std::size_t kRecordMax = 64U << 20;

// Accepts exactly one encoding of each record: known fields only, ascending, none twice unless
// repeated, none at its default value, shortest varints, `string` in printable ASCII, nothing
// behind. The rules for each message come from the .proto files (cmake/proto_shapes.cmake), for
// nested messages too. Code::corrupt names `what` and the field.
Result<> parse_into(ByteSpan bytes, std::string_view what, google::protobuf::MessageLite& out);

template <class Message>
Result<Message> parse_record(ByteSpan bytes, std::string_view what) {
  Message message;
  HF_TRY(parse_into(bytes, what, message));
  return message;
}

// The canonical encoding.
Bytes encode(const google::protobuf::MessageLite& message);

// A protobuf bytes field is a std::string.
inline std::string to_field(ByteSpan bytes) { return std::string(as_text(bytes)); }
// Code::corrupt unless the field has exactly N bytes.
template <class IdType>
Result<IdType> id_field(const std::string& field, std::string_view what) {
  if (field.size() != IdType::size)
    return fail(Code::corrupt, std::string(what) + ": not " + std::to_string(IdType::size) +
                                   " bytes but " + std::to_string(field.size()));
  return IdType::from(as_bytes(field));
}

// Signed { body, signature }, the signature over T(purpose; body).
Bytes sign_record(std::string_view purpose, ByteSpan body, const Signer& signer);

struct SignedRecord {
  Bytes body;
  Signature signature;
};
// What it says before anybody has looked at the signature: only to find out whose key to ask for.
Result<SignedRecord> read_unverified(std::string_view what, ByteSpan record);
[[nodiscard]] bool verify_record(std::string_view purpose, const SignedRecord& record,
                                 const SignPublicKey& key);
// The body, after the signature was verified. Code::corrupt names `what`.
Result<Bytes> open_record(std::string_view purpose, std::string_view what, ByteSpan record,
                          const SignPublicKey& key);

}  // namespace holdfast::wire
