// SPDX-License-Identifier: Apache-2.0
// The filter: "split block Bloom filter" of the Parquet format specification (BloomFilter.md), with
// bytes of the id in place of xxHash, since ids are outputs of a PRF already. The search:
// interpolation, as ids are uniform, with a bound that holds when they are not.
#include "repo/segment.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "crypto/hash.h"

namespace holdfast {
namespace {

constexpr std::string_view kMagic = "HFIDX001";
constexpr std::uint32_t kVersion = 1;
constexpr std::size_t kHashedFooter = 96;
constexpr std::uint64_t kRecordsMax = std::uint64_t{1} << 36;
constexpr std::uint64_t kKeysInBlock = 16;  // 256 bits by 16 bits a key
constexpr std::uint32_t kTierMax = 63;
constexpr int kInterpolationSteps = 4;
constexpr std::size_t kWriteStep = 64U << 10;

// Positions are proportional to this.
std::uint64_t order_key(const std::byte* id) {
  const auto little = load_le<std::uint64_t>(id);
  return std::byteswap(little);
}

// floor(key * n / 2^64)
std::uint64_t scale(std::uint64_t key, std::uint64_t n) {
  __extension__ typedef unsigned __int128 Wide;
  return static_cast<std::uint64_t>((Wide{key} * n) >> 64);
}

int compare_ids(const std::byte* a, const std::byte* b) { return std::memcmp(a, b, ChunkId::size); }

// Eight bits of 256: one in each word.
std::array<std::uint32_t, 8> filter_masks(const ChunkId& id) {
  constexpr std::array<std::uint32_t, 8> salts = {0x47b6137bU, 0x44974d91U, 0x8824ad5bU,
                                                  0xa2b7289dU, 0x705495c7U, 0x2df1424bU,
                                                  0x9efc4947U, 0x5c6bfb31U};
  const auto key = load_le<std::uint32_t>(id.bytes.data() + 8);
  std::array<std::uint32_t, 8> masks{};
  for (std::size_t i = 0; i < masks.size(); ++i) masks[i] = 1U << ((key * salts[i]) >> 27);
  return masks;
}

std::uint32_t filter_blocks_for(std::uint64_t records) {
  return static_cast<std::uint32_t>(
      std::max<std::uint64_t>(1, (records + kKeysInBlock - 1) / kKeysInBlock));
}

std::optional<std::uint64_t> parse_number(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

struct Footer {
  std::uint32_t tier;
  RepositoryId repository;
  std::uint64_t records;
  std::uint32_t packs;
  std::uint32_t blocks;
  std::uint64_t first, last;
};

Bytes encode(const Footer& footer) {
  Bytes out;
  Writer w(out);
  w.raw(as_bytes(kMagic));
  w.u32(kVersion);
  w.u32(footer.tier);
  w.raw(footer.repository.span());
  w.u64(footer.records);
  w.u32(footer.packs);
  w.u32(footer.blocks);
  w.u64(footer.first);
  w.u64(footer.last);
  w.zeros(kHashedFooter - out.size());
  return out;
}

Footer decode(ByteSpan bytes) {
  Reader r(bytes.subspan(kMagic.size() + 4));
  Footer footer{};
  footer.tier = r.u32();
  footer.repository = RepositoryId::from(r.take(RepositoryId::size));
  footer.records = r.u64();
  footer.packs = r.u32();
  footer.blocks = r.u32();
  footer.first = r.u64();
  footer.last = r.u64();
  return footer;
}

}  // namespace

std::string SegmentName::text() const { return fmt::format("{}-{}.seg", tier, number); }

std::optional<SegmentName> SegmentName::parse(std::string_view text) {
  constexpr std::string_view ending = ".seg";
  const std::size_t dash = text.find('-');
  if (dash == std::string_view::npos || !text.ends_with(ending)) return std::nullopt;
  const auto tier = parse_number(text.substr(0, dash));
  const auto number = parse_number(
      text.substr(dash + 1, text.size() - std::min(text.size(), dash + 1 + ending.size())));
  if (!tier || !number || *tier > kTierMax) return std::nullopt;
  const SegmentName name{.tier = static_cast<std::uint32_t>(*tier), .number = *number};
  if (name.text() != text) return std::nullopt;  // "00-1.seg" would be a second name for one thing
  return name;
}

SegmentRecord load_record(const std::byte* at) {
  return {.id = ChunkId::from({at, ChunkId::size}),
          .pack = load_le<std::uint32_t>(at + 32),
          .frame = load_le<std::uint16_t>(at + 36),
          .slot = load_le<std::uint16_t>(at + 38)};
}

void store_record(std::byte* at, const SegmentRecord& record) {
  std::memcpy(at, record.id.bytes.data(), ChunkId::size);
  store_le(at + 32, record.pack);
  store_le(at + 36, record.frame);
  store_le(at + 38, record.slot);
}

std::uint32_t filter_block_of(const ChunkId& id, std::uint32_t blocks) {
  return static_cast<std::uint32_t>(scale(order_key(id.bytes.data()), blocks));
}

void filter_add(MutableByteSpan block, const ChunkId& id) {
  const auto masks = filter_masks(id);
  for (std::size_t i = 0; i < masks.size(); ++i) {
    std::byte* const word = block.data() + 4 * i;
    store_le(word, load_le<std::uint32_t>(word) | masks[i]);
  }
}

const std::byte* FilterView::block(const ChunkId& id) const {
  const auto blocks = static_cast<std::uint32_t>(blocks_.size() / kFilterBlockSize);
  return blocks_.data() + std::size_t{filter_block_of(id, blocks)} * kFilterBlockSize;
}

bool FilterView::may_contain(const ChunkId& id) const {
  const std::byte* const at = block(id);
  const auto masks = filter_masks(id);
  std::uint32_t missing = 0;
  for (std::size_t i = 0; i < masks.size(); ++i)
    missing |= ~load_le<std::uint32_t>(at + 4 * i) & masks[i];
  return missing == 0;
}

Result<std::shared_ptr<Segment>> Segment::open(LocalFolder& folder, const SegmentName& name,
                                               const RepositoryId& repository) {
  HF_ASSIGN(auto mapping, folder.map(name.text()));
  std::shared_ptr<Segment> segment(new Segment(name, std::move(mapping)));
  if (auto parsed = segment->parse(repository); !parsed)
    return wrap(std::move(parsed).error(), fmt::format("index {}/{}", folder.where(), name.text()));
  return segment;
}

Result<> Segment::parse(const RepositoryId& repository) {
  const ByteSpan all = mapping_->bytes();
  if (all.size() < kSegmentHeaderSize + kSegmentFooterSize) return fail(Code::corrupt, "too short");
  const ByteSpan end = all.last(kSegmentFooterSize);
  if (as_text(end.first(kMagic.size())) != kMagic || as_text(all.first(kMagic.size())) != kMagic ||
      load_le<std::uint32_t>(end.data() + kMagic.size()) != kVersion)
    return fail(Code::corrupt, "not an index segment of this version");
  const Footer footer = decode(end);
  if (footer.repository != repository) return fail(Code::corrupt, "of another repository");
  if (footer.tier != name_.tier || footer.last != name_.number || footer.first > footer.last)
    return fail(Code::corrupt, "stands under another name");
  // Bounded first, so that the sum cannot overflow; blocks > 0 keeps the filter's view non-empty.
  if (footer.records > kRecordsMax || footer.blocks == 0)
    return fail(Code::corrupt, "counts are out of bounds");
  const std::uint64_t filter_size = std::uint64_t{footer.blocks} * kFilterBlockSize;
  const std::uint64_t records_size = footer.records * kRecordSize;
  const std::uint64_t packs_size = std::uint64_t{footer.packs} * kSegmentPackSize;
  if (kSegmentHeaderSize + filter_size + records_size + packs_size + kSegmentFooterSize !=
      all.size())
    return fail(Code::corrupt, "its size is not what its counts say");
  filter_ = FilterView(all.subspan(kSegmentHeaderSize, filter_size));
  records_ = all.subspan(kSegmentHeaderSize + filter_size, records_size);
  packs_ = all.subspan(kSegmentHeaderSize + filter_size + records_size, packs_size);
  Sha256 hash;
  hash.update(end.first(kHashedFooter));
  hash.update(packs_);
  if (!std::ranges::equal(hash.finish().span(), end.subspan(kHashedFooter)))
    return fail(Code::corrupt, "damaged");
  first_ = footer.first;
  record_count_ = footer.records;
  pack_count_ = footer.packs;
  return check_pack_order();
}

// Every page of the table was touched for the hash anyway; find_pack() rests on it.
Result<> Segment::check_pack_order() const {
  for (std::size_t at = kSegmentPackSize; at < packs_.size(); at += kSegmentPackSize)
    if (std::memcmp(packs_.data() + at - kSegmentPackSize, packs_.data() + at, ObjectHash::size) >=
        0)
      return fail(Code::corrupt, "its packs are out of order");
  return {};
}

SegmentPack Segment::pack(std::uint32_t number) const {
  Reader r(packs_.subspan(std::size_t{number} * kSegmentPackSize, kSegmentPackSize));
  SegmentPack out{};
  out.pack.pack = ObjectHash::from(r.take(ObjectHash::size));
  out.pack.device = DeviceId::from(r.take(DeviceId::size));
  out.pack.size = r.u64();
  out.records = r.u32();
  out.pack.type = static_cast<ObjectType>(r.u8());
  return out;
}

std::optional<std::uint32_t> Segment::find_pack(const ObjectHash& pack) const {
  if (lies()) return std::nullopt;
  std::uint32_t low = 0;
  std::uint32_t high = pack_count_;
  while (low < high) {
    const std::uint32_t middle = low + (high - low) / 2;
    const int order = std::memcmp(packs_.data() + std::size_t{middle} * kSegmentPackSize,
                                  pack.bytes.data(), ObjectHash::size);
    if (order == 0) return middle;
    (order < 0 ? low : high) = order < 0 ? middle + 1 : middle;
  }
  return std::nullopt;
}

// Near the first record that is not below `id`; anywhere when ids are not uniform.
std::uint64_t Segment::interpolate(const ChunkId& id) const {
  const std::uint64_t key = order_key(id.bytes.data());
  const std::uint64_t last = record_count_ - 1;
  std::uint64_t at = scale(key, record_count_);
  for (int step = 0; step < kInterpolationSteps; ++step) {
    const std::uint64_t there = order_key(record(at));
    const std::uint64_t away = scale(there > key ? there - key : key - there, record_count_);
    if (away < 2) break;
    at = there > key ? at - std::min(at, away) : std::min(last, at + std::min(last, away));
  }
  return at;
}

// From there in doubling steps until the place is between `low` and `high`, then halving.
std::uint64_t Segment::lower_bound(const ChunkId& id) const {
  if (record_count_ == 0) return 0;
  const auto below = [&](std::uint64_t i) { return compare_ids(record(i), id.bytes.data()) < 0; };
  std::uint64_t low = 0;
  std::uint64_t high = record_count_;  // the place is in [low, high]
  const std::uint64_t guess = interpolate(id);
  const bool up = below(guess);
  (up ? low : high) = up ? guess + 1 : guess;
  for (std::uint64_t step = 4; step < high - low; step *= 2) {
    const std::uint64_t at = up ? low + step : high - step;
    const bool lower = below(at);
    (lower ? low : high) = lower ? at + 1 : at;
    if (lower != up) break;
  }
  while (low < high) {
    const std::uint64_t middle = low + (high - low) / 2;
    if (below(middle))
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

std::optional<FoundRecord> Segment::find(const ChunkId& id, const PackSet& removed) {
  if (lies()) return std::nullopt;
  const std::uint64_t begin = lower_bound(id);
  for (std::uint64_t i = begin; i < record_count_ && i < begin + kCopiesMax; ++i) {
    if (compare_ids(record(i), id.bytes.data()) != 0) break;
    const SegmentRecord found = load_record(record(i));
    if (found.pack >= pack_count_) {
      mark_lying();
      return std::nullopt;
    }
    if (removed.empty() || !removed.contains(pack(found.pack).pack.pack))
      return FoundRecord{.record = found, .position = i};
  }
  return std::nullopt;
}

namespace {

// What becomes of the packs of all inputs: their numbers in the new segment.
class PackMerge {
 public:
  static constexpr std::uint32_t kDropped = UINT32_MAX;

  PackMerge(std::span<const SegmentInput> inputs, const PackSet& removed) : inputs_(inputs) {
    for (std::uint32_t input = 0; input < inputs.size(); ++input) {
      numbers_.emplace_back(inputs[input].pack_count, kDropped);
      for (std::uint32_t number = 0; number < inputs[input].pack_count; ++number)
        if (removed.empty() || !removed.contains(hash_of(input, number)))
          kept_.push_back({.input = input, .number = number, .records = 0});
    }
    sort_and_unite();
    for (std::uint32_t i = 0; i < kept_.size(); ++i) numbers_[kept_[i].input][kept_[i].number] = i;
  }
  [[nodiscard]] std::uint32_t number(std::size_t input, std::uint32_t old) const {
    return numbers_[input][old];
  }
  void count(std::uint32_t number) { ++kept_[number].records; }
  [[nodiscard]] std::uint32_t size() const { return static_cast<std::uint32_t>(kept_.size()); }
  [[nodiscard]] SegmentPack pack(std::uint32_t number) const {
    const Kept& kept = kept_[number];
    SegmentPack out = inputs_[kept.input].pack(kept.number);
    out.records = kept.records;
    return out;
  }

 private:
  struct Kept {
    std::uint32_t input, number, records;
  };
  [[nodiscard]] ObjectHash hash_of(std::uint32_t input, std::uint32_t number) const {
    return inputs_[input].pack(number).pack.pack;
  }
  // A pack that two inputs have stays with the newest.
  void sort_and_unite() {
    std::ranges::sort(kept_, [this](const Kept& a, const Kept& b) {
      const auto order = hash_of(a.input, a.number) <=> hash_of(b.input, b.number);
      return order != 0 ? order < 0 : a.input < b.input;
    });
    const auto rest = std::ranges::unique(kept_, [this](const Kept& a, const Kept& b) {
      return hash_of(a.input, a.number) == hash_of(b.input, b.number);
    });
    kept_.erase(rest.begin(), rest.end());
  }

  std::span<const SegmentInput> inputs_;
  std::vector<std::vector<std::uint32_t>> numbers_;
  std::vector<Kept> kept_;
};

class SegmentWriter {
 public:
  SegmentWriter(LocalWriter& file, const SegmentTarget& target,
                std::span<const SegmentInput> inputs, const PackSet& removed)
      : file_(file), target_(target), inputs_(inputs), packs_(inputs, removed) {
    std::uint64_t records = 0;
    for (const SegmentInput& input : inputs) records += input.records.size() / kRecordSize;
    blocks_ = filter_blocks_for(records);
    buffer_.reserve(kWriteStep + kSegmentPackSize);
  }

  Result<> write(std::optional<std::size_t>& liar) {
    Bytes header(kSegmentHeaderSize);
    std::ranges::copy(as_bytes(kMagic), header.begin());
    HF_TRY(put(header));
    HF_TRY(write_filter());
    HF_TRY(write_records(liar));
    HF_TRY(write_packs());
    return file_.commit();
  }

 private:
  Result<> put(ByteSpan bytes) {
    buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
    return buffer_.size() < kWriteStep ? Result<>() : drain();
  }
  Result<> drain() {
    HF_TRY(file_.append(buffer_));
    buffer_.clear();
    return {};
  }

  // Block after block, of each input what belongs into it. Records of dropped packs and second
  // copies set bits in vain: harmless, and rare.
  Result<> write_filter() {
    std::vector<std::size_t> at(inputs_.size(), 0);
    for (std::uint32_t block = 0; block < blocks_; ++block) {
      std::array<std::byte, kFilterBlockSize> bits{};
      for (std::size_t i = 0; i < inputs_.size(); ++i)
        for (const ByteSpan records = inputs_[i].records; at[i] < records.size();
             at[i] += kRecordSize) {
          const ChunkId id = ChunkId::from(records.subspan(at[i], ChunkId::size));
          if (filter_block_of(id, blocks_) > block) break;
          filter_add(bits, id);
        }
      HF_TRY(put(bits));
    }
    return {};
  }

  // The heads of all inputs; equal ids come newest input first.
  struct Head {
    std::uint64_t key = 0;
    const std::byte* at = nullptr;
    const std::byte* end = nullptr;
    std::size_t input = 0;
    [[nodiscard]] bool before(const Head& other) const {
      if (key != other.key) return key < other.key;
      const int order = compare_ids(at, other.at);
      return order != 0 ? order < 0 : input < other.input;
    }
  };
  [[nodiscard]] std::vector<Head> heads() const {
    std::vector<Head> out;
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      const ByteSpan records = inputs_[i].records;
      if (records.empty()) continue;
      out.push_back(
          {order_key(records.data()), records.data(), records.data() + records.size(), i});
    }
    return out;
  }

  Result<> write_records(std::optional<std::size_t>& liar) {
    std::vector<Head> all = heads();
    while (!all.empty()) {
      Head& head = *std::ranges::min_element(all, &SegmentWriter::head_order);
      const SegmentRecord record = load_record(head.at);
      if (record.pack >= inputs_[head.input].pack_count || !advance(head)) {
        liar = head.input;
        return fail(Code::corrupt, "an index segment is not as it must be");
      }
      const std::size_t input = head.input;
      if (head.at == head.end) all.erase(all.begin() + (&head - all.data()));
      HF_TRY(keep(record, input));
    }
    return {};
  }
  static bool head_order(const Head& a, const Head& b) { return a.before(b); }
  // False when the next record is below this one.
  static bool advance(Head& head) {
    const std::byte* const old = head.at;
    head.at += kRecordSize;
    if (head.at == head.end) return true;
    head.key = order_key(head.at);
    return compare_ids(old, head.at) <= 0;
  }
  Result<> keep(SegmentRecord record, std::size_t input) {
    const std::uint32_t number = packs_.number(input, record.pack);
    if (number == PackMerge::kDropped) return {};
    copies_ = records_ > 0 && record.id == last_ ? copies_ + 1 : 1;
    if (copies_ > kCopiesMax) return {};
    last_ = record.id;
    record.pack = number;
    packs_.count(number);
    ++records_;
    std::array<std::byte, kRecordSize> bytes{};
    store_record(bytes.data(), record);
    return put(bytes);
  }

  Result<> write_packs() {
    Sha256 hash;
    const Bytes footer = encode({.tier = target_.name.tier,
                                 .repository = target_.repository,
                                 .records = records_,
                                 .packs = packs_.size(),
                                 .blocks = blocks_,
                                 .first = target_.first,
                                 .last = target_.name.number});
    hash.update(footer);
    for (std::uint32_t i = 0; i < packs_.size(); ++i) {
      const Bytes bytes = encode_pack(packs_.pack(i));
      hash.update(bytes);
      HF_TRY(put(bytes));
    }
    HF_TRY(put(footer));
    HF_TRY(put(hash.finish().span()));
    return drain();
  }
  static Bytes encode_pack(const SegmentPack& pack) {
    Bytes out;
    Writer w(out);
    w.raw(pack.pack.pack.span());
    w.raw(pack.pack.device.span());
    w.u64(pack.pack.size);
    w.u32(pack.records);
    w.u8(static_cast<std::uint8_t>(pack.pack.type));
    w.zeros(kSegmentPackSize - out.size());
    return out;
  }

  LocalWriter& file_;
  const SegmentTarget& target_;
  std::span<const SegmentInput> inputs_;
  PackMerge packs_;
  std::uint32_t blocks_ = 1;
  std::uint64_t records_ = 0;
  ChunkId last_;
  unsigned copies_ = 0;
  Bytes buffer_;
};

}  // namespace

Result<> write_segment(LocalFolder& folder, const SegmentTarget& target,
                       std::span<const SegmentInput> inputs, const PackSet& removed,
                       std::optional<std::size_t>& liar) {
  HF_ASSIGN(const auto file, folder.create(target.name.text()));
  return SegmentWriter(*file, target, inputs, removed).write(liar);
}

}  // namespace holdfast
