// SPDX-License-Identifier: Apache-2.0
// How segments come and go. Everything that changes the index holds `change_` for as long as it
// takes, and `mutex_` only to swap in the result; a lookup holds `mutex_` shared. One process at a
// time writes to the folder, for as long as a Burst of changes takes; it first takes over what
// others wrote since. Meanwhile others keep what they add in memory.
#include "repo/index.h"

#include <fmt/format.h>

#include <algorithm>
#include <mutex>
#include <shared_mutex>
#include <unordered_map>

#include "crypto/hash.h"
#include "repo/chunk_table.h"
#include "repo/segment.h"

namespace holdfast {
namespace {

constexpr std::string_view kLockName = "lock";
constexpr std::string_view kRemovedName = "removed";
constexpr std::string_view kRemovedMagic = "HFIRM001";
constexpr std::uint64_t kRemovedSizeMax = 256U << 20;
constexpr std::size_t kRemovedMax =
    std::size_t{16} * 1024;  // then all segments are written anew without them
constexpr int kListTries = 20;
constexpr std::size_t kTablesWithoutFile = 4;
constexpr std::uint32_t kTopTier = 63;

using Segments = std::vector<std::shared_ptr<Segment>>;  // newest first

// "removed": magic, repository, hashes, SHA-256 of all that.
Bytes encode_removed(const RepositoryId& repository, const PackSet& removed) {
  Bytes out;
  Writer w(out);
  w.raw(as_bytes(kRemovedMagic));
  w.raw(repository.span());
  for (const ObjectHash& pack : removed) w.raw(pack.span());
  w.raw(sha256(out).span());
  return out;
}

std::optional<PackSet> decode_removed(const RepositoryId& repository, ByteSpan bytes) {
  if (bytes.size() < Hash256::size) return std::nullopt;
  const ByteSpan body = bytes.first(bytes.size() - Hash256::size);
  if (!std::ranges::equal(sha256(body).span(), bytes.last(Hash256::size))) return std::nullopt;
  Reader r(body);
  if (as_text(r.take(kRemovedMagic.size())) != kRemovedMagic) return std::nullopt;
  if (RepositoryId::from(r.take(RepositoryId::size)) != repository) return std::nullopt;
  PackSet removed;
  while (r.left() >= ObjectHash::size) removed.insert(ObjectHash::from(r.take(ObjectHash::size)));
  if (!r.at_end()) return std::nullopt;
  return removed;
}

SegmentInput input_of(const Segment& segment) {
  return {.records = segment.records(),
          .pack_count = segment.pack_count(),
          .pack = [&segment](std::uint32_t number) { return segment.pack(number); }};
}

class TieredIndex final : public Index {
 public:
  TieredIndex(LocalFolder& folder, const RepositoryId& repository, const IndexLimits& limits)
      : folder_(folder), repository_(repository), limits_(limits) {}

  Result<> open();

  bool contains(const ChunkId& id) override;
  std::optional<ChunkPlace> find(const ChunkId& id) override;
  std::optional<ChunkPlace> find_beside(const ChunkId& id,
                                        std::span<const ObjectHash> packs) override;
  std::optional<std::uint64_t> number_of(const ChunkId& id) override;
  Result<> add(const PackTable& table) override;
  bool has_pack(const ObjectHash& pack) override;
  std::vector<IndexedPack> packs() override;
  Result<> remove_packs(const std::vector<ObjectHash>& packs) override;
  void set_condemned(std::span<const ObjectHash> packs) override;
  Result<> each_record(const VisitRecord& visit) override;
  Result<> flush() override;
  std::uint64_t chunk_count() override;

 private:
  // What the folder holds.
  struct View {
    Segments segments;
    PackSet removed;  // packs of which segments may still have records
  };
  // The right to write, and what is there by now; change_ is held. Where the folder is another's or
  // read-only, writable() stays false.
  class Burst {
   public:
    static Result<std::unique_ptr<Burst>> begin(TieredIndex& index);
    ~Burst() { index_.lock_.reset(); }
    Burst(const Burst&) = delete;
    Burst& operator=(const Burst&) = delete;

   private:
    explicit Burst(TieredIndex& index) : index_(index) {}
    TieredIndex& index_;
  };
  [[nodiscard]] bool writable() const { return lock_ != nullptr; }
  Result<> take_lock();
  Result<> load();
  Result<std::optional<View>> read_view();
  Result<bool> load_removed(View& view);
  Result<bool> load_segments(View& view, bool trusted);
  Result<bool> load_segment(View& view, const SegmentName& name);
  Result<> drop_replaced();

  // `found(record, segment, position)`, with null for the table, while the lock is held. True: it
  // was called.
  template <class Found>
  bool lookup(const ChunkId& id, bool counting, Found&& found);
  template <class Found>
  bool search(const ChunkId& id, const PackSet& avoid, bool& lie_met, Found&& found);
  void drop_liars();  // change_ is held
  void note_removed();

  [[nodiscard]] bool in_segments(const ObjectHash& pack) const;
  [[nodiscard]] bool known(const ObjectHash& pack) const;
  void insert(const PackTable& table);
  void forget_new(const PackSet& gone);
  void forget_what_others_wrote();
  Result<> write_removed(PackSet removed);

  Result<> flush_table();
  Result<> merge_full_tiers();
  Result<> compact();
  Result<bool> merge(Segments old, const SegmentName& name);
  void replace_segments(const Segments& old, std::shared_ptr<Segment> with);
  Result<> remove_files(const Segments& old);

  LocalFolder& folder_;
  const RepositoryId repository_;
  const IndexLimits limits_;
  std::unique_ptr<LocalLock> lock_;  // of a burst

  std::mutex change_;
  std::shared_mutex mutex_;
  ChunkTable table_;
  std::vector<SegmentPack> new_packs_;  // of table_
  std::unordered_map<ObjectHash, std::uint32_t, IdHash> new_numbers_;
  Segments segments_;
  PackSet removed_;    // packs of which segments may still have records
  PackSet unwritten_;  // as removed_, when it could not be written
  PackSet forgotten_;  // by this process: what others write of them does not bring them back
  PackSet condemned_;
  PackSet avoided_;  // removed_ and condemned_; empty while nothing is condemned
  std::uint64_t next_number_ = 1;
  bool leftovers_ = false;  // a file that should be gone may still be there
};

// ---- opening

Result<> TieredIndex::open() {
  const std::lock_guard change(change_);
  HF_TRY(take_lock());
  auto loaded = load();
  if (loaded) loaded = drop_replaced();
  lock_.reset();
  return loaded;
}

Result<> TieredIndex::take_lock() {
  auto lock = folder_.lock(kLockName);
  if (lock)
    lock_ = std::move(*lock);
  else if (lock.error().code != Code::conflict && lock.error().code != Code::denied)
    return std::unexpected(std::move(lock).error());
  return {};
}

Result<std::unique_ptr<TieredIndex::Burst>> TieredIndex::Burst::begin(TieredIndex& index) {
  HF_TRY(index.take_lock());
  std::unique_ptr<Burst> burst(new Burst(index));
  if (!index.writable()) return burst;
  HF_TRY(index.load());
  index.forget_what_others_wrote();
  if (!index.unwritten_.empty()) HF_TRY(index.write_removed(index.removed_));
  return burst;
}

Result<> TieredIndex::load() {
  // The writer may merge while a reader opens: then files vanish between list and map.
  for (int tries = 0; tries < kListTries; ++tries) {
    HF_ASSIGN(auto view, read_view());
    if (!view) continue;
    const std::lock_guard lock(mutex_);
    segments_ = std::move(view->segments);
    removed_ = std::move(view->removed);
    removed_.insert(unwritten_.begin(), unwritten_.end());
    for (const ObjectHash& pack : forgotten_)
      if (in_segments(pack)) removed_.insert(pack);
    note_removed();
    return {};
  }
  return fail(Code::unavailable,
              fmt::format("index {}: it changes all the time; try again", folder_.where()));
}

Result<std::optional<TieredIndex::View>> TieredIndex::read_view() {
  View view;
  HF_ASSIGN(const bool trusted, load_removed(view));
  HF_ASSIGN(const bool complete, load_segments(view, trusted));
  return complete ? std::optional(std::move(view)) : std::nullopt;
}

// False: it is damaged, so that no segment can be trusted: packs that are gone would count as
// there, and new snapshots would rest on them.
Result<bool> TieredIndex::load_removed(View& view) {
  auto bytes = folder_.read(kRemovedName, kRemovedSizeMax);
  if (!bytes && bytes.error().code == Code::not_found) return true;
  if (!bytes && bytes.error().code != Code::corrupt) return std::unexpected(bytes.error());
  auto removed = bytes ? decode_removed(repository_, *bytes) : std::nullopt;
  if (!removed) return false;
  view.removed = std::move(*removed);
  return true;
}

// False: a segment vanished meanwhile.
Result<bool> TieredIndex::load_segments(View& view, bool trusted) {
  HF_ASSIGN(const auto files, folder_.list(""));
  for (const std::string& file : files) {
    const auto name = SegmentName::parse(file);
    if (name) next_number_ = std::max(next_number_, name->number + 1);
    if (name && trusted) {
      HF_ASSIGN(const bool there, load_segment(view, *name));
      if (!there) return false;
    } else if (file.ends_with(".seg") && writable()) {
      HF_TRY(folder_.remove(file));
    }
  }
  if (!trusted && writable()) HF_TRY(folder_.remove(kRemovedName));
  std::ranges::sort(view.segments, std::greater(), [](const auto& s) { return s->name().number; });
  return true;
}

Result<bool> TieredIndex::load_segment(View& view, const SegmentName& name) {
  const auto known = std::ranges::find_if(
      segments_, [&](const auto& s) { return s->name() == name && !s->lies(); });
  if (known != segments_.end()) {
    view.segments.push_back(*known);
    return true;
  }
  auto segment = Segment::open(folder_, name, repository_);
  if (segment) {
    view.segments.push_back(std::move(*segment));
    return true;
  }
  if (segment.error().code == Code::not_found) return false;
  if (segment.error().code != Code::corrupt) return std::unexpected(segment.error());
  if (writable()) HF_TRY(folder_.remove(name.text()));
  return true;
}

// What a merge that was cut short left.
Result<> TieredIndex::drop_replaced() {
  Segments old;
  for (const auto& segment : segments_)
    if (std::ranges::any_of(segments_, [&](const auto& s) { return s->replaces(segment->name()); }))
      old.push_back(segment);
  replace_segments(old, nullptr);
  return writable() ? remove_files(old) : Result<>();
}

// ---- looking up

bool TieredIndex::contains(const ChunkId& id) {
  // Not by find(): reading the pack's hash would be one more cache miss.
  return lookup(id, true, [](const SegmentRecord&, const Segment*, std::uint64_t) {});
}

std::optional<ChunkPlace> TieredIndex::find(const ChunkId& id) {
  ChunkPlace place{};
  const bool there =
      lookup(id, false, [&](const SegmentRecord& record, const Segment* segment, std::uint64_t) {
        const SegmentPack pack = segment ? segment->pack(record.pack) : new_packs_[record.pack];
        place = {.pack = pack.pack.pack, .frame = record.frame, .slot = record.slot};
      });
  return there ? std::optional(place) : std::nullopt;
}

// Seldom: where something is damaged. A lie that it meets is left for find() to meet.
std::optional<ChunkPlace> TieredIndex::find_beside(const ChunkId& id,
                                                   std::span<const ObjectHash> packs) {
  const std::shared_lock lock(mutex_);
  PackSet avoid = removed_;
  avoid.insert(packs.begin(), packs.end());
  std::optional<ChunkPlace> place;
  table_.for_each([&](const SegmentRecord& record) {
    const ObjectHash& pack = new_packs_[record.pack].pack.pack;
    if (record.id == id && !avoid.contains(pack))
      place = {.pack = pack, .frame = record.frame, .slot = record.slot};
  });
  for (auto at = segments_.begin(); at != segments_.end() && !place; ++at) {
    if (!(*at)->filter().may_contain(id)) continue;
    if (const auto hit = (*at)->find(id, avoid))
      place = {.pack = (*at)->pack(hit->record.pack).pack.pack,
               .frame = hit->record.frame,
               .slot = hit->record.slot};
  }
  return place;
}

std::optional<std::uint64_t> TieredIndex::number_of(const ChunkId& id) {
  std::optional<std::uint64_t> number;
  lookup(id, false, [&](const SegmentRecord&, const Segment* segment, std::uint64_t position) {
    if (segment == nullptr) return;
    number = position;
    for (const auto& before : segments_) {
      if (before.get() == segment) break;
      *number += before->record_count();
    }
  });
  return number;
}

template <class Found>
bool TieredIndex::lookup(const ChunkId& id, bool counting, Found&& found) {
  bool lie_met = false;
  bool there = false;
  {
    const std::shared_lock lock(mutex_);
    const bool avoiding = !condemned_.empty();
    there = search(id, avoiding ? avoided_ : removed_, lie_met, found) ||
            (avoiding && !counting && search(id, removed_, lie_met, found));
  }
  if (lie_met) {
    const std::lock_guard change(change_);
    // Where the folder cannot be written, the next process meets the lie again.
    [[maybe_unused]] const auto locked = take_lock();
    drop_liars();
    lock_.reset();
  }
  return there;
}

// mutex_ is held.
template <class Found>
bool TieredIndex::search(const ChunkId& id, const PackSet& avoid, bool& lie_met, Found&& found) {
  if (const auto record = table_.find(id);
      record && !(!condemned_.empty() && avoid.contains(new_packs_[record->pack].pack.pack)))
    return found(*record, nullptr, 0), true;
  // All blocks are on their way before the first is looked at.
  for (const auto& segment : segments_) __builtin_prefetch(segment->filter().block(id));
  bool there = false;
  for (auto at = segments_.begin(); at != segments_.end() && !there; ++at) {
    if (!(*at)->filter().may_contain(id)) continue;
    const auto hit = (*at)->find(id, avoid);
    there = hit.has_value();
    if (there) found(hit->record, at->get(), hit->position);
    lie_met = lie_met || (*at)->lies();
  }
  return there;
}

void TieredIndex::set_condemned(std::span<const ObjectHash> packs) {
  const std::lock_guard lock(mutex_);
  condemned_ = PackSet(packs.begin(), packs.end());
  note_removed();
}

// mutex_ is held: removed_ or condemned_ changed.
void TieredIndex::note_removed() {
  avoided_ = condemned_;
  if (!condemned_.empty()) avoided_.insert(removed_.begin(), removed_.end());
}

Result<> TieredIndex::each_record(const VisitRecord& visit) {
  const std::lock_guard change(change_);  // segments stay
  std::uint64_t first = 0;
  std::size_t first_pack = new_packs_.size();  // as packs() gives them
  for (const auto& segment : segments_) {
    std::vector<std::optional<std::size_t>> place(segment->pack_count());
    for (std::uint32_t i = 0; i < segment->pack_count() && !segment->lies(); ++i)
      if (!removed_.contains(segment->pack(i).pack.pack)) place[i] = first_pack++;
    for (std::uint64_t i = 0; i < segment->record_count() && !segment->lies(); ++i) {
      const SegmentRecord record = load_record(segment->records().data() + i * kRecordSize);
      if (record.pack >= place.size()) {
        segment->mark_lying();
        return fail(Code::unavailable,
                    "the local index was damaged, and is made again next time: run this again");
      }
      if (place[record.pack])
        HF_TRY(visit(first + i, record.id, *place[record.pack], record.frame, record.slot));
    }
    first += segment->record_count();
  }
  return {};
}

void TieredIndex::drop_liars() {
  Segments lying;
  std::ranges::copy_if(segments_, std::back_inserter(lying), &Segment::lies);
  replace_segments(lying, nullptr);
  for (const auto& segment : lying)
    if (!writable() || !folder_.remove(segment->name().text())) leftovers_ = true;
}

bool TieredIndex::in_segments(const ObjectHash& pack) const {
  return std::ranges::any_of(segments_,
                             [&](const auto& s) { return s->find_pack(pack).has_value(); });
}

bool TieredIndex::known(const ObjectHash& pack) const {
  return new_numbers_.contains(pack) || (!removed_.contains(pack) && in_segments(pack));
}

bool TieredIndex::has_pack(const ObjectHash& pack) {
  const std::shared_lock lock(mutex_);
  return known(pack);
}

std::vector<IndexedPack> TieredIndex::packs() {
  const std::shared_lock lock(mutex_);
  std::vector<IndexedPack> out;
  out.reserve(new_packs_.size());
  for (const SegmentPack& pack : new_packs_) out.push_back(pack.pack);
  for (const auto& segment : segments_)
    for (std::uint32_t i = 0; i < segment->pack_count() && !segment->lies(); ++i)
      if (const IndexedPack pack = segment->pack(i).pack; !removed_.contains(pack.pack))
        out.push_back(pack);
  return out;
}

std::uint64_t TieredIndex::chunk_count() {
  const std::shared_lock lock(mutex_);
  std::uint64_t count = table_.size();
  for (const auto& segment : segments_) {
    if (segment->lies()) continue;
    std::uint64_t gone = 0;
    for (const ObjectHash& pack : removed_)
      if (const auto number = segment->find_pack(pack)) gone += segment->pack(*number).records;
    count += segment->record_count() - std::min(segment->record_count(), gone);
  }
  return count;
}

// ---- changing

Result<> check_frames(const PackTable& table) {
  for (const PackFrame& frame : table.frames)
    if (frame.first_chunk > table.chunks.size() ||
        frame.chunk_count > table.chunks.size() - frame.first_chunk ||
        frame.chunk_count > kFrameChunksMax)
      return fail(Code::corrupt, fmt::format("index pack {}: a frame has chunks that its table "
                                             "does not have",
                                             table.pack.brief()));
  if (table.frames.size() <= kPackFramesMax) return {};
  return fail(Code::corrupt, fmt::format("index pack {}: too many frames", table.pack.brief()));
}

Result<> TieredIndex::add(const PackTable& table) {
  HF_TRY(check_frames(table));
  const std::lock_guard change(change_);
  if (known(table.pack)) return {};
  forgotten_.erase(table.pack);
  if (removed_.contains(table.pack)) {
    HF_ASSIGN(const auto burst, Burst::begin(*this));
    PackSet removed = removed_;
    removed.erase(table.pack);
    HF_TRY(write_removed(std::move(removed)));
    // The name is the hash of its bytes: what a segment says of it is true again.
    if (in_segments(table.pack)) return {};
  }
  if (table_.size() + table.chunks.size() > limits_.table_chunks_max ||
      new_packs_.size() >= limits_.table_chunks_max) {
    // A cache that cannot be written does not stop anybody while there is room in memory.
    auto flushed = flush_table();
    if (table_.size() >= kTablesWithoutFile * limits_.table_chunks_max)
      return flushed ? fail(Code::conflict, fmt::format("index {}: another process writes it and "
                                                        "does not end; try again when it has",
                                                        folder_.where()))
                     : flushed;
  }
  const std::lock_guard lock(mutex_);
  insert(table);
  return {};
}

void TieredIndex::insert(const PackTable& table) {
  const auto number = static_cast<std::uint32_t>(new_packs_.size());
  for (std::size_t f = 0; f < table.frames.size(); ++f) {
    const PackFrame& frame = table.frames[f];
    for (std::uint32_t slot = 0; slot < frame.chunk_count; ++slot)
      table_.insert({.id = table.chunks[frame.first_chunk + slot].id,
                     .pack = number,
                     .frame = static_cast<std::uint16_t>(f),
                     .slot = static_cast<std::uint16_t>(slot)});
  }
  new_packs_.push_back({.pack = {.pack = table.pack,
                                 .type = table.type,
                                 .size = table.pack_size,
                                 .device = table.device},
                        .records = 0});
  new_numbers_.emplace(table.pack, number);
}

Result<> TieredIndex::remove_packs(const std::vector<ObjectHash>& packs) {
  const std::lock_guard change(change_);
  if (std::ranges::none_of(packs, [&](const ObjectHash& pack) { return known(pack); })) {
    forgotten_.insert(packs.begin(), packs.end());
    return {};
  }
  HF_ASSIGN(const auto burst, Burst::begin(*this));
  PackSet removed = removed_;
  PackSet fresh;
  for (const ObjectHash& pack : packs) {
    if (new_numbers_.contains(pack)) fresh.insert(pack);
    if (in_segments(pack)) removed.insert(pack);
  }
  if (!fresh.empty()) forget_new(fresh);
  if (removed != removed_) HF_TRY(write_removed(std::move(removed)));
  // Not before that: load() takes what is in it for removed, and it would not be written.
  forgotten_.insert(packs.begin(), packs.end());
  return removed_.size() > kRemovedMax && writable() ? compact() : Result<>();
}

void TieredIndex::forget_new(const PackSet& gone) {
  std::vector<SegmentPack> packs;
  std::unordered_map<ObjectHash, std::uint32_t, IdHash> numbers;
  for (const SegmentPack& pack : new_packs_) {
    if (gone.contains(pack.pack.pack)) continue;
    numbers.emplace(pack.pack.pack, static_cast<std::uint32_t>(packs.size()));
    packs.push_back(pack);
  }
  ChunkTable table;
  table_.for_each([&](SegmentRecord record) {
    const auto kept = numbers.find(new_packs_[record.pack].pack.pack);
    if (kept == numbers.end()) return;
    record.pack = kept->second;
    table.insert(record);
  });
  const std::lock_guard lock(mutex_);
  table_ = std::move(table);
  new_packs_ = std::move(packs);
  new_numbers_ = std::move(numbers);
}

// Packs that were added here and are in another process's segments too: each is listed once.
void TieredIndex::forget_what_others_wrote() {
  PackSet there;
  for (const SegmentPack& pack : new_packs_)
    if (in_segments(pack.pack.pack) && !removed_.contains(pack.pack.pack))
      there.insert(pack.pack.pack);
  if (!there.empty()) forget_new(there);
}

// On disk first: what is forgotten must stay so.
Result<> TieredIndex::write_removed(PackSet removed) {
  // A cache that has no room, or that another process writes, costs time: the next burst tries
  // again, and the next process knows from the records what is gone.
  const auto written = writable()
                           ? folder_.replace(kRemovedName, encode_removed(repository_, removed))
                           : fail(Code::full, "");
  if (!written && written.error().code != Code::full) return written;
  if (written)
    unwritten_.clear();
  else
    unwritten_ = removed;
  const std::lock_guard lock(mutex_);
  removed_ = std::move(removed);
  note_removed();
  return {};
}

// ---- writing segments

Result<> TieredIndex::flush() {
  const std::lock_guard change(change_);
  return flush_table();
}

Result<> TieredIndex::flush_table() {
  if (new_packs_.empty()) return {};
  HF_ASSIGN(const auto burst, Burst::begin(*this));
  if (!writable()) return {};
  const Bytes records = table_.sorted();
  const SegmentInput input{.records = records,
                           .pack_count = static_cast<std::uint32_t>(new_packs_.size()),
                           .pack = [this](std::uint32_t number) { return new_packs_[number]; }};
  const SegmentName name{.tier = 0, .number = next_number_++};
  std::optional<std::size_t> liar;
  HF_TRY(write_segment(folder_, {.name = name, .first = name.number, .repository = repository_},
                       {&input, 1}, {}, liar));
  HF_ASSIGN(auto segment, Segment::open(folder_, name, repository_));
  {
    const std::lock_guard lock(mutex_);
    segments_.insert(segments_.begin(), std::move(segment));
    table_.clear();
    new_packs_.clear();
    new_numbers_.clear();
  }
  return merge_full_tiers();
}

Result<> TieredIndex::merge_full_tiers() {
  const std::size_t ratio = std::max<std::size_t>(2, limits_.tier_ratio);
  for (std::uint32_t tier = 0; tier < kTopTier; ++tier) {
    bool done = false;
    while (!done) {  // each round that is not done drops a segment
      Segments full;
      std::ranges::copy_if(segments_, std::back_inserter(full),
                           [&](const auto& s) { return s->name().tier == tier; });
      if (full.size() < ratio) break;
      HF_ASSIGN(done, merge(full, {.tier = tier + 1, .number = full.front()->name().number}));
    }
  }
  return {};
}

Result<> TieredIndex::compact() {
  bool done = segments_.empty();
  while (!done) {
    std::uint32_t tier = 0;
    for (const auto& segment : segments_) tier = std::max(tier, segment->name().tier);
    HF_ASSIGN(done, merge(segments_, {.tier = tier, .number = next_number_++}));
    done = done || segments_.empty();
  }
  return {};
}

// False: one of `old` was not as it must be, and is dropped now. By value: `segments_` changes.
Result<bool> TieredIndex::merge(Segments old, const SegmentName& name) {
  std::vector<SegmentInput> inputs;
  SegmentTarget target{.name = name, .first = name.number, .repository = repository_};
  for (const auto& segment : old) {
    inputs.push_back(input_of(*segment));
    target.first = std::min(target.first, segment->first());
  }
  std::optional<std::size_t> liar;
  auto written = write_segment(folder_, target, inputs, removed_, liar);
  if (liar) {
    old[*liar]->mark_lying();
    drop_liars();
    return false;
  }
  if (!written) return std::unexpected(std::move(written).error());
  HF_ASSIGN(auto merged, Segment::open(folder_, name, repository_));
  replace_segments(old, std::move(merged));
  HF_TRY(remove_files(old));
  return true;
}

void TieredIndex::replace_segments(const Segments& old, std::shared_ptr<Segment> with) {
  const std::lock_guard lock(mutex_);
  std::erase_if(segments_, [&](const auto& s) { return std::ranges::find(old, s) != old.end(); });
  if (with) segments_.push_back(std::move(with));
  std::ranges::sort(segments_, std::greater(), [](const auto& s) { return s->name().number; });
}

// And forgets removed packs that no segment has any more; only then, since a file that stayed would
// bring them back.
Result<> TieredIndex::remove_files(const Segments& old) {
  for (const auto& segment : old) {
    auto removed = folder_.remove(segment->name().text());
    leftovers_ = leftovers_ || !removed;
    if (!removed) return removed;
  }
  if (leftovers_) return {};
  PackSet removed = removed_;
  std::erase_if(removed, [&](const ObjectHash& pack) { return !in_segments(pack); });
  return removed == removed_ ? Result<>() : write_removed(std::move(removed));
}

}  // namespace

Result<std::unique_ptr<Index>> Index::open(LocalFolder& folder, const RepositoryId& repository,
                                           const IndexLimits& limits) {
  auto index = std::make_unique<TieredIndex>(folder, repository, limits);
  HF_TRY(index->open());
  return index;
}

}  // namespace holdfast
