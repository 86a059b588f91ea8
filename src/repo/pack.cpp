// SPDX-License-Identifier: Apache-2.0
// Names and tables of packs. Nothing in a table is used before its tag and signature hold; even
// then every number in it is checked, because the device that signed it may lie.
#include <fmt/format.h>

#include <algorithm>

#include "base/parallel.h"
#include "crypto/purposes.h"
#include "repo/pack_format.h"

namespace holdfast {

using namespace pack_format;

namespace {

constexpr std::size_t kSuffixRead = 64U << 10;  // most tables are shorter: one read gives all

struct Request {
  const RepositoryKeys& keys;
  const DeviceKeyLookup& devices;
  const ObjectHash& pack;
  ObjectType type;
};

struct Footer {
  ByteSpan nonce;
  std::uint32_t table_length;  // tag included
  std::uint32_t frames;        // with the padding frame
};

std::string type_name(ObjectType type) {
  switch (type) {
    case ObjectType::data_pack:
      return "data pack";
    case ObjectType::tree_pack:
      return "tree pack";
    default:
      return fmt::format("object of type {}", static_cast<int>(type));
  }
}

Result<> check_size(std::uint64_t size) {
  if (size > kPackSize)
    return fail(Code::corrupt,
                fmt::format("{} bytes: a pack has at most {}", size, std::size_t{kPackSize}));
  if (size < kEmptyPack)
    return fail(Code::corrupt, fmt::format("{} bytes: too short for a pack, it was cut off", size));
  if (padme(size) != size)
    return fail(
        Code::corrupt,
        fmt::format("{} bytes: no size that a pack has, it was cut off or is damaged", size));
  return {};
}

// `end`: the last kFooterSize bytes of a pack of `size` bytes.
Result<Footer> parse_footer(ByteSpan end, std::uint64_t size) {
  Reader in(end);
  Footer out{.nonce = in.take(kNonceSize), .table_length = in.u32(), .frames = in.u32()};
  const std::uint32_t zero = in.u32();
  if (as_text(in.take(kFooterMagic.size())) != kFooterMagic || zero != 0)
    return fail(Code::corrupt, "footer: not that of a pack; it was cut off or is damaged");
  if (out.frames == 0 || out.frames > kPackFramesMax)
    return fail(Code::corrupt, fmt::format("footer: {} frames, expected 1 to {}", out.frames,
                                           std::size_t{kPackFramesMax}));
  const std::uint64_t least =
      kTableStart + out.frames * std::uint64_t{kFrameRecord} + Signature::size + kTagSize;
  const std::uint64_t between = size - kHeaderSize - kFooterSize;
  const std::uint64_t most =
      between - std::min(between, out.frames * std::uint64_t{kFrameOverhead});
  if (out.table_length < least || out.table_length > most)
    return fail(Code::corrupt,
                fmt::format("footer: a table of {} bytes, expected {} to {} for {} frames",
                            out.table_length, least, most, out.frames));
  return out;
}

Result<PackKind> parse_header(const Request& request, ByteSpan header) {
  Reader in(header);
  if (as_text(in.take(kHeaderMagic.size())) != kHeaderMagic)
    return fail(Code::corrupt,
                fmt::format("wrong object type: expected a {}, found no pack of "
                            "this version (first bytes {})",
                            type_name(request.type), to_hex(header.first(kHeaderMagic.size()))));
  const std::uint8_t suite = in.u8();
  const std::uint8_t type = in.u8();
  const std::uint16_t reserved = in.u16();
  PackKind out{.suite = {}, .type = request.type, .epoch = in.u32(), .salt = {}};
  std::ranges::copy(in.take(kSaltSize), out.salt.begin());
  if (type != static_cast<std::uint8_t>(request.type))
    return fail(Code::corrupt,
                fmt::format("wrong object type: expected a {}, found a {}", type_name(request.type),
                            type_name(static_cast<ObjectType>(type))));
  if (suite != 1 && suite != 2)
    return fail(Code::corrupt, fmt::format("header: cipher suite {} is not known: expected 1 or 2; "
                                           "it is damaged or needs a newer holdfast",
                                           suite));
  if (reserved != 0) return fail(Code::corrupt, "header: reserved bytes are set; it is damaged");
  out.suite = static_cast<Suite>(suite);
  return out;
}

Result<PackCipher> open_header(const Request& request, ByteSpan header) {
  HF_ASSIGN(const PackKind kind, parse_header(request, header));
  if (!request.keys.epoch_keys.contains(kind.epoch))
    return std::unexpected(unknown_epoch(
        request.keys, {pack_format::kVersion, kind.suite, kind.type, kind.epoch, kind.salt},
        header.subspan(kCommitmentAt, Hash256::size)));
  PackCipher cipher(request.keys, kind);
  if (!equal_secret(cipher.commitment(), header.subspan(kCommitmentAt, Hash256::size)))
    return fail(Code::corrupt,
                "key commitment does not match: it belongs to another account or repository, or "
                "its header is damaged");
  return cipher;
}

Result<> check_signature(const Request& request, const PackCipher& cipher, const DeviceId& device,
                         ByteSpan table) {
  const std::optional<SignPublicKey> key = request.devices(device);
  if (!key)
    return fail(Code::corrupt, fmt::format("written by device {}, which this account does not know",
                                           device.hex()));
  const std::size_t body = table.size() - Signature::size;
  if (verify(*key, cipher.signed_table(table.first(body)), Signature::from(table.subspan(body))))
    return {};
  return fail(Code::corrupt,
              fmt::format("table: the signature is not that of device {}", device.hex()));
}

// The parts of a table, one after the other. Positions are sums of u32 in u64: they cannot wrap.
class TableParser {
 public:
  TableParser(const Request& request, const Footer& footer, std::uint64_t size, ByteSpan plain)
      : request_(request),
        footer_(footer),
        table_at_(size - kFooterSize - footer.table_length),
        in_(plain) {}
  Result<ParsedPack> parse();

 private:
  Result<> counts(std::size_t plain_size);
  Result<> frame(std::uint32_t number);
  Result<> padding(std::uint32_t number);
  Result<> chunks_of(std::size_t frame);

  const Request& request_;
  const Footer& footer_;
  const std::uint64_t table_at_;
  Reader in_;
  std::uint32_t chunk_count_ = 0;
  std::uint64_t offset_ = kHeaderSize;
  std::uint64_t chunks_seen_ = 0;
  ParsedPack out_;
};

Result<> TableParser::counts(std::size_t plain_size) {
  out_.table.device = DeviceId::from(in_.take(DeviceId::size));
  const std::uint32_t frames = in_.u32();
  chunk_count_ = in_.u32();
  if (frames != footer_.frames)
    return fail(Code::corrupt,
                fmt::format("table: {} frames, the footer says {}", frames, footer_.frames));
  const std::uint64_t expected = kTableStart + frames * std::uint64_t{kFrameRecord} +
                                 chunk_count_ * std::uint64_t{kChunkRecord} + Signature::size;
  if (expected != plain_size)
    return fail(Code::corrupt, fmt::format("table: {} bytes, but {} frames and {} chunks take {}",
                                           plain_size, frames, chunk_count_, expected));
  return {};
}

Result<> TableParser::frame(std::uint32_t number) {
  const PackFrame f{.offset = static_cast<std::uint32_t>(offset_),
                    .stored = in_.u32(),
                    .plain = in_.u32(),
                    .method = static_cast<Method>(in_.u8()),
                    .first_chunk = static_cast<std::uint32_t>(chunks_seen_),
                    .chunk_count = in_.u32()};
  const auto bad = [number](std::string_view what) {
    return fail(Code::corrupt, fmt::format("table: frame {}: {}", number, what));
  };
  if (f.method != Method::raw && f.method != Method::zstd)
    return bad(
        fmt::format("method {} is not one that a frame of data has", static_cast<int>(f.method)));
  if (f.plain == 0 || f.plain > kFramePlainMax)
    return bad(
        fmt::format("plain length {}, expected 1 to {}", f.plain, std::size_t{kFramePlainMax}));
  if (f.stored == 0 || f.stored > f.plain || (f.method == Method::raw && f.stored != f.plain))
    return bad(fmt::format("stored length {} does not fit plain length {}", f.stored, f.plain));
  if (f.chunk_count == 0 || f.chunk_count > kFrameChunksMax ||
      f.chunk_count > chunk_count_ - chunks_seen_)
    return bad(fmt::format("chunk count {}, expected 1 to {} ({} of the table are left)",
                           f.chunk_count, std::size_t{kFrameChunksMax},
                           chunk_count_ - chunks_seen_));
  offset_ += std::uint64_t{f.stored} + kFrameOverhead;
  if (offset_ > table_at_) return bad("reaches into the table");
  chunks_seen_ += f.chunk_count;
  out_.table.frames.push_back(f);
  return {};
}

Result<> TableParser::padding(std::uint32_t number) {
  const std::uint32_t stored = in_.u32(), plain = in_.u32();
  const std::uint8_t method = in_.u8();
  const std::uint32_t chunks = in_.u32();
  if (method != static_cast<std::uint8_t>(Method::padding) || stored != plain || chunks != 0)
    return fail(Code::corrupt,
                fmt::format("table: frame {}: the last frame is not a padding frame", number));
  if (offset_ + kFrameOverhead + stored != table_at_)
    return fail(Code::corrupt, fmt::format("table: frames end at {}, the table begins at {}",
                                           offset_ + kFrameOverhead + stored, table_at_));
  if (chunks_seen_ != chunk_count_)
    return fail(Code::corrupt, fmt::format("table: frames have {} chunks together, it lists {}",
                                           chunks_seen_, chunk_count_));
  out_.padding_at = static_cast<std::uint32_t>(offset_);
  out_.padding_stored = stored;
  out_.table_at = static_cast<std::uint32_t>(table_at_);
  return {};
}

Result<> TableParser::chunks_of(std::size_t frame) {
  const PackFrame& f = out_.table.frames[frame];
  std::uint64_t sum = 0;
  for (std::uint32_t i = 0; i < f.chunk_count; ++i) {
    PackChunk c{.id = ChunkId::from(in_.take(ChunkId::size)), .length = in_.u32(), .type = {}};
    const std::uint8_t type = in_.u8();
    c.type = static_cast<ChunkType>(type);
    const bool data = c.type == ChunkType::data;
    if (type == 0 || type > static_cast<std::uint8_t>(ChunkType::list) ||
        data != (request_.type == ObjectType::data_pack))
      return fail(Code::corrupt,
                  fmt::format("table: frame {}: chunk {}: wrong object type: a {} has no chunk of "
                              "type {}",
                              frame, c.id.brief(), type_name(request_.type), type));
    sum += c.length;
    if (c.length == 0 || sum > f.plain)
      return fail(Code::corrupt, fmt::format("table: frame {}: chunk {}: length {} does not fit "
                                             "the frame's plain length {}",
                                             frame, c.id.brief(), c.length, f.plain));
    out_.table.chunks.push_back(c);
  }
  if (sum != f.plain)
    return fail(Code::corrupt, fmt::format("table: frame {}: its chunks have {} bytes together, "
                                           "its plain length is {}",
                                           frame, sum, f.plain));
  return {};
}

Result<ParsedPack> TableParser::parse() {
  HF_TRY(counts(in_.left()));
  // Both counts were compared with the bytes that are there: what is allocated is no more than
  // that.
  out_.table.frames.reserve(footer_.frames - 1);
  for (std::uint32_t i = 0; i + 1 < footer_.frames; ++i) HF_TRY(frame(i));
  HF_TRY(padding(footer_.frames - 1));
  out_.table.chunks.reserve(chunk_count_);
  for (std::size_t i = 0; i < out_.table.frames.size(); ++i) HF_TRY(chunks_of(i));
  assert(in_.left() == Signature::size);
  return std::move(out_);
}

Result<ParsedPack> open_table(const Request& request, std::uint64_t size, ByteSpan header,
                              const Footer& footer, ByteSpan sealed) {
  HF_ASSIGN(PackCipher cipher, open_header(request, header));
  Bytes plain(sealed.size() - kTagSize);
  if (auto opened = cipher.open(footer.nonce, cipher.table_aad(footer.frames, footer.table_length),
                                sealed, plain);
      !opened)
    return wrap(std::move(opened).error(), "table");
  const DeviceId device = DeviceId::from(ByteSpan(plain).first(DeviceId::size));
  HF_TRY(check_signature(request, cipher, device, plain));
  HF_ASSIGN(ParsedPack out, TableParser(request, footer, size, plain).parse());
  const PackKind& kind = cipher.kind();
  out.table.pack = request.pack;
  out.table.pack_size = size;
  out.table.type = kind.type;
  out.table.epoch = kind.epoch;
  out.table.suite = kind.suite;
  out.table.salt = kind.salt;
  return out;
}

Transcript chunk_prefix(ChunkType type) {
  return Transcript(purpose::chunk_id).number(static_cast<std::uint8_t>(type));
}

std::string pack_text(const ObjectHash& pack) { return "pack " + pack.brief(); }

// The sealed table and the footer, and the header.
Result<ParsedPack> load(ObjectStore& store, const Request& request) {
  const std::string name = pack_name(request.pack);
  Result<ObjectStore::Tail> end_of_pack;
  std::array<std::byte, kHeaderSize> header;
  Result<> got_header;
  parallel_for(store.parallel(), 2, [&](std::size_t part) {
    if (part == 0)
      end_of_pack = store.get_tail(name, kSuffixRead);
    else
      got_header = store.get_range(name, 0, header);
  });
  if (!end_of_pack) return std::unexpected(std::move(end_of_pack).error());
  const std::uint64_t size = end_of_pack->size;
  HF_TRY(check_size(size));
  HF_TRY(std::move(got_header));
  Bytes tail = std::move(end_of_pack->bytes);
  HF_ASSIGN(Footer footer, parse_footer(ByteSpan(tail).last(kFooterSize), size));
  const std::size_t wanted = footer.table_length + kFooterSize;
  if (wanted > tail.size()) {
    Bytes longer(wanted);
    const std::size_t missing = wanted - tail.size();
    HF_TRY(store.get_range(name, size - wanted, MutableByteSpan(longer).first(missing)));
    std::ranges::copy(tail, longer.begin() + static_cast<std::ptrdiff_t>(missing));
    tail = std::move(longer);
    HF_ASSIGN(footer, parse_footer(ByteSpan(tail).last(kFooterSize), size));
  }
  const ByteSpan end = ByteSpan(tail).last(wanted);
  return open_table(request, size, header, footer, end.first(footer.table_length));
}

Result<ParsedPack> parse(const Request& request, ByteSpan bytes) {
  HF_TRY(check_size(bytes.size()));
  HF_ASSIGN(const Footer footer, parse_footer(bytes.last(kFooterSize), bytes.size()));
  const ByteSpan end = bytes.last(footer.table_length + kFooterSize);
  return open_table(request, bytes.size(), bytes.first(kHeaderSize), footer,
                    end.first(footer.table_length));
}

template <class T>
Result<T> named(const ObjectHash& pack, Result<T> result) {
  if (result) return result;
  return wrap(std::move(result).error(), pack_text(pack));
}

Result<PackTable> table_of(Result<ParsedPack> parsed) {
  HF_ASSIGN(ParsedPack pack, std::move(parsed));
  return std::move(pack.table);
}

}  // namespace

ChunkId ChunkHasher::id(ChunkType type, ByteSpan plain) {
  const auto number = static_cast<std::uint8_t>(type);
  assert(number >= 1 && number <= 4);
  static const std::array<Transcript, 4> prefixes{
      chunk_prefix(ChunkType::data), chunk_prefix(ChunkType::leaf), chunk_prefix(ChunkType::inner),
      chunk_prefix(ChunkType::list)};
  return ChunkId::from(hmac_.tag(prefixes[number - 1U].span(), plain).span());
}

std::string pack_name(const ObjectHash& pack) {
  const std::string hex = pack.hex();
  return fmt::format("packs/{}/{}", std::string_view(hex).substr(0, 2), hex);
}

Result<ObjectHash> parse_pack_name(std::string_view name) {
  constexpr std::size_t digits = 2 * ObjectHash::size;
  if (name.size() > digits) {
    const auto hash = ObjectHash::parse(name.substr(name.size() - digits));
    if (hash && pack_name(*hash) == name) return *hash;
  }
  return fail(Code::invalid,
              fmt::format("{}: not the name of a pack, expected packs/<hh>/<64 hex digits>",
                          escaped(name)));
}

Result<PackTable> read_pack_table(ObjectStore& store, const RepositoryKeys& keys,
                                  const DeviceKeyLookup& devices, const ObjectHash& pack,
                                  ObjectType type) {
  return table_of(load_pack(store, keys, devices, pack, type));
}

Result<PackTable> parse_pack(const RepositoryKeys& keys, const DeviceKeyLookup& devices,
                             const ObjectHash& pack, ObjectType type, ByteSpan bytes) {
  return table_of(named(pack, parse({keys, devices, pack, type}, bytes)));
}

Result<ParsedPack> pack_format::load_pack(ObjectStore& store, const RepositoryKeys& keys,
                                          const DeviceKeyLookup& devices, const ObjectHash& pack,
                                          ObjectType type) {
  return named(pack, load(store, {keys, devices, pack, type}));
}

}  // namespace holdfast
