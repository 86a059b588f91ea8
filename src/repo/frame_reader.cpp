// SPDX-License-Identifier: Apache-2.0
// Frames back to chunks. Order of trust: the table was verified; the tag of the frame binds it to
// its place in this pack; decompression stops at the length that the table says; then every chunk's
// id is computed again.
#include <fmt/format.h>
#include <zstd.h>

#include <algorithm>
#include <list>

#include "crypto/must.h"
#include "repo/pack_format.h"

namespace holdfast {

using namespace pack_format;

namespace {

constexpr std::size_t kCiphersKept = 4;
constexpr int kWindowLogMax = 20;

struct ContextFree {
  void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
};
using Context = std::unique_ptr<ZSTD_DCtx, ContextFree>;

Context new_context() {
  Context context(ZSTD_createDCtx());
  crypto_must(context != nullptr && !ZSTD_isError(ZSTD_DCtx_setParameter(
                                        context.get(), ZSTD_d_windowLogMax, kWindowLogMax)),
              "starting the decompressor");
  return context;
}

// The window that a zstd frame asks for (RFC 8878, 3.1.1.1), which one-pass decompression does not
// look at; 0 where the content is the window.
std::uint64_t zstd_window(ByteSpan frame) {
  if (frame.size() < 6) return 0;  // not a frame that decompresses
  const auto descriptor = static_cast<unsigned>(frame[4]);
  if ((descriptor & 0x20U) != 0) return 0;
  const auto window = static_cast<unsigned>(frame[5]);
  const std::uint64_t base = std::uint64_t{1} << (10 + (window >> 3));
  return base + base / 8 * (window & 7);
}

// What can be said before anything is decompressed: one frame, nothing behind it, no dictionary,
// the declared length, a window in bounds.
Result<> check_zstd(ByteSpan stored, std::uint64_t plain) {
  const unsigned long long declared = ZSTD_getFrameContentSize(stored.data(), stored.size());
  if (declared == ZSTD_CONTENTSIZE_ERROR) return fail(Code::corrupt, "no zstd frame");
  if (declared != ZSTD_CONTENTSIZE_UNKNOWN && declared != plain)
    return fail(Code::corrupt,
                fmt::format("would decompress to {} bytes, the table says {}", declared, plain));
  if (zstd_window(stored) > std::uint64_t{1} << kWindowLogMax)
    return fail(Code::corrupt, fmt::format("wants a window of {} bytes, at most {} are allowed",
                                           zstd_window(stored), 1U << kWindowLogMax));
  if (ZSTD_getDictID_fromFrame(stored.data(), stored.size()) != 0)
    return fail(Code::corrupt, "wants a dictionary, none is allowed");
  if (ZSTD_findFrameCompressedSize(stored.data(), stored.size()) != stored.size())
    return fail(Code::corrupt, "is cut off, or more follows behind its zstd frame");
  return {};
}

}  // namespace

struct FrameReader::Impl {
  explicit Impl(const RepositoryKeys& k) : keys(k), hasher(k.secrets.id_key.span()) {}
  const RepositoryKeys& keys;
  ChunkHasher hasher;
  Context zstd = new_context();
  ReusedBuffer sealed, compressed;
  std::list<PackCipher> ciphers;  // of the packs read last, newest first

  Result<PackCipher*> cipher(const PackTable& table);
  Result<> decompress(ByteSpan stored, MutableByteSpan out);
  Result<> decode(PackCipher& cipher, const PackTable& table, std::size_t frame,
                  ByteSpan sealed_frame, Bytes& out);
  Result<> check_ids(std::span<const PackChunk> chunks, ByteSpan plain);
  Result<> open_frame(const PackTable& table, std::size_t frame, ByteSpan sealed_frame, Bytes& out);
  Result<> open_padding(const ParsedPack& pack, MutableByteSpan sealed_frame);
};

// Deriving a pack's keys costs more than opening a small frame.
Result<PackCipher*> FrameReader::Impl::cipher(const PackTable& table) {
  const PackKind kind{
      .suite = table.suite, .type = table.type, .epoch = table.epoch, .salt = table.salt};
  const auto found = std::ranges::find(ciphers, kind, &PackCipher::kind);
  if (found != ciphers.end()) {
    ciphers.splice(ciphers.begin(), ciphers, found);
    return &ciphers.front();
  }
  if (!keys.epoch_keys.contains(kind.epoch))
    return fail(Code::denied,
                fmt::format("sealed under epoch {}, for which this device has no key", kind.epoch));
  if (ciphers.size() == kCiphersKept) ciphers.pop_back();
  ciphers.emplace_front(keys, kind);
  return &ciphers.front();
}

Result<> FrameReader::Impl::decompress(ByteSpan stored, MutableByteSpan out) {
  HF_TRY(check_zstd(stored, out.size()));
  const std::size_t got =
      ZSTD_decompressDCtx(zstd.get(), out.data(), out.size(), stored.data(), stored.size());
  if (ZSTD_isError(got))
    return fail(Code::corrupt, fmt::format("does not decompress to {} bytes: {}", out.size(),
                                           ZSTD_getErrorName(got)));
  if (got != out.size())
    return fail(Code::corrupt,
                fmt::format("decompresses to {} bytes, the table says {}", got, out.size()));
  return {};
}

Result<> FrameReader::Impl::decode(PackCipher& cipher, const PackTable& table, std::size_t frame,
                                   ByteSpan sealed_frame, Bytes& out) {
  const PackFrame& f = table.frames[frame];
  const Transcript aad = cipher.frame_aad({.number = static_cast<std::uint32_t>(frame),
                                           .last = false,
                                           .plain = f.plain,
                                           .stored = f.stored,
                                           .method = f.method});
  out.resize(f.plain);
  const ByteSpan nonce = sealed_frame.first(kNonceSize), body = sealed_frame.subspan(kNonceSize);
  if (f.method == Method::raw) return cipher.open(nonce, aad, body, out);
  const MutableByteSpan stored = compressed.of(f.stored);
  HF_TRY(cipher.open(nonce, aad, body, stored));
  return decompress(stored, out);
}

Result<> FrameReader::Impl::check_ids(std::span<const PackChunk> chunks, ByteSpan plain) {
  std::size_t at = 0;
  for (const PackChunk& chunk : chunks) {
    if (chunk.length > plain.size() - at)
      return fail(Code::corrupt,
                  fmt::format("chunk {}: reaches past the frame's end", chunk.id.hex()));
    if (hasher.id(chunk.type, plain.subspan(at, chunk.length)) != chunk.id)
      return fail(Code::corrupt,
                  fmt::format("chunk {}: its bytes are not those of its id", chunk.id.hex()));
    at += chunk.length;
  }
  return {};
}

Result<> FrameReader::Impl::open_frame(const PackTable& table, std::size_t frame,
                                       ByteSpan sealed_frame, Bytes& out) {
  const PackFrame& f = table.frames[frame];
  assert(std::uint64_t{f.first_chunk} + f.chunk_count <= table.chunks.size());
  const auto chunks = std::span(table.chunks).subspan(f.first_chunk, f.chunk_count);
  const auto named = [&](Error error) {
    const std::string first = chunks.empty() ? "none" : chunks.front().id.brief();
    return wrap(std::move(error), fmt::format("pack {}: frame {} ({} chunks from {})",
                                              table.pack.brief(), frame, chunks.size(), first));
  };
  if (sealed_frame.size() != std::size_t{f.stored} + kFrameOverhead)
    return named({Code::corrupt, fmt::format("{} bytes, the table says {}", sealed_frame.size(),
                                             std::size_t{f.stored} + kFrameOverhead)});
  HF_ASSIGN(PackCipher* const keyed, cipher(table));
  if (auto done = decode(*keyed, table, frame, sealed_frame, out); !done)
    return named(std::move(done).error());
  if (auto done = check_ids(chunks, out); !done) return named(std::move(done).error());
  return {};
}

Result<> FrameReader::Impl::open_padding(const ParsedPack& pack, MutableByteSpan sealed_frame) {
  HF_ASSIGN(PackCipher* const keyed, cipher(pack.table));
  const auto number = static_cast<std::uint32_t>(pack.table.frames.size());
  const Transcript aad = keyed->frame_aad({.number = number,
                                           .last = true,
                                           .plain = pack.padding_stored,
                                           .stored = pack.padding_stored,
                                           .method = Method::padding});
  const MutableByteSpan body = sealed_frame.subspan(kNonceSize);
  const MutableByteSpan plain = body.first(pack.padding_stored);
  HF_TRY(keyed->open(sealed_frame.first(kNonceSize), aad, body, plain));
  if (std::ranges::any_of(plain, [](std::byte b) { return b != std::byte{0}; }))
    return fail(Code::corrupt, "the padding is not zeros");
  return {};
}

FrameReader::FrameReader(const RepositoryKeys& keys) : impl_(std::make_unique<Impl>(keys)) {}
FrameReader::~FrameReader() = default;
FrameReader::FrameReader(FrameReader&&) noexcept = default;

Result<> FrameReader::read(ObjectStore& store, const PackTable& table, std::size_t frame,
                           Bytes& out) {
  if (frame >= table.frames.size())  // an index may say anything
    return fail(Code::corrupt, fmt::format("pack {}: it has {} frames, not a frame {}",
                                           table.pack.brief(), table.frames.size(), frame));
  const PackFrame& f = table.frames[frame];
  const MutableByteSpan sealed = impl_->sealed.of(std::size_t{f.stored} + kFrameOverhead);
  if (auto got = store.get_range(pack_name(table.pack), f.offset, sealed); !got)
    return wrap(std::move(got).error(),
                fmt::format("pack {}: frame {}", table.pack.brief(), frame));
  return impl_->open_frame(table, frame, sealed, out);
}

Result<> FrameReader::open(const PackTable& table, std::size_t frame, ByteSpan sealed, Bytes& out) {
  assert(frame < table.frames.size());
  return impl_->open_frame(table, frame, sealed, out);
}

// One pass over the bytes in their order, a few frames at a time, so that they are hashed and
// opened while they are in the CPU's cache.
class PackVerifier {
 public:
  PackVerifier(ObjectStore& store, const ParsedPack& pack, FrameReader& reader)
      : store_(store), pack_(pack), reader_(*reader.impl_), name_(pack_name(pack.table.pack)) {}
  Result<std::vector<PackDamage>> run();

 private:
  static constexpr std::size_t kWindow = 1U << 20;
  Result<MutableByteSpan> next(std::size_t size);
  std::size_t frames_in_window(std::size_t first) const;
  void check_frame(std::size_t frame, ByteSpan sealed);
  void damaged(std::string what, std::span<const PackChunk> chunks);

  ObjectStore& store_;
  const ParsedPack& pack_;
  FrameReader::Impl& reader_;
  const std::string name_;
  Sha256 hash_;
  std::uint64_t at_ = 0;
  Bytes plain_;
  std::vector<PackDamage> damage_;
};

Result<MutableByteSpan> PackVerifier::next(std::size_t size) {
  const MutableByteSpan out = reader_.sealed.of(size);
  HF_TRY(store_.get_range(name_, at_, out));
  hash_.update(out);
  at_ += size;
  return out;
}

std::size_t PackVerifier::frames_in_window(std::size_t first) const {
  const auto& frames = pack_.table.frames;
  std::size_t end = first + 1;
  while (end < frames.size() && frames[end].offset + std::size_t{frames[end].stored} +
                                        kFrameOverhead - frames[first].offset <=
                                    kWindow)
    ++end;
  return end;
}

void PackVerifier::damaged(std::string what, std::span<const PackChunk> chunks) {
  PackDamage out{.what = std::move(what), .chunks = {}};
  out.chunks.reserve(chunks.size());
  for (const PackChunk& chunk : chunks) out.chunks.push_back(chunk.id);
  damage_.push_back(std::move(out));
}

void PackVerifier::check_frame(std::size_t frame, ByteSpan sealed) {
  auto opened = reader_.open_frame(pack_.table, frame, sealed, plain_);
  if (opened) return;
  const PackFrame& f = pack_.table.frames[frame];
  damaged(std::move(opened).error().what,
          std::span(pack_.table.chunks).subspan(f.first_chunk, f.chunk_count));
}

Result<std::vector<PackDamage>> PackVerifier::run() {
  const std::string text = "pack " + pack_.table.pack.brief();
  const auto& frames = pack_.table.frames;
  HF_TRY(next(kHeaderSize));
  for (std::size_t i = 0; i < frames.size();) {
    const std::size_t end = frames_in_window(i);
    const std::size_t begin_at = frames[i].offset;
    const std::size_t end_at = frames[end - 1].offset + frames[end - 1].stored + kFrameOverhead;
    HF_ASSIGN(const ByteSpan window, next(end_at - begin_at));
    for (; i < end; ++i)
      check_frame(i,
                  window.subspan(frames[i].offset - begin_at, frames[i].stored + kFrameOverhead));
  }
  HF_ASSIGN(const MutableByteSpan padding, next(pack_.padding_stored + kFrameOverhead));
  if (auto opened = reader_.open_padding(pack_, padding); !opened)
    damaged(fmt::format("{}: padding frame: {}", text, opened.error().what), {});
  HF_TRY(next(static_cast<std::size_t>(pack_.table.pack_size) - pack_.table_at));
  const ObjectHash found = ObjectHash::from(hash_.finish().span());
  if (found != pack_.table.pack)
    damaged(
        fmt::format("{}: its bytes are not those of its name: their hash is {}", text, found.hex()),
        {});
  return std::move(damage_);
}

Result<std::vector<PackDamage>> verify_pack(ObjectStore& store, const RepositoryKeys& keys,
                                            const DeviceKeyLookup& devices, const ObjectHash& pack,
                                            ObjectType type, FrameReader& frames) {
  HF_ASSIGN(const ParsedPack parsed, load_pack(store, keys, devices, pack, type));
  return PackVerifier(store, parsed, frames).run();
}

}  // namespace holdfast
