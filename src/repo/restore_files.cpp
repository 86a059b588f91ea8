// SPDX-License-Identifier: Apache-2.0
#include "repo/restore_files.h"

#include <algorithm>

namespace holdfast {
namespace {

// A batch holds few enough directories open and little enough memory, whatever the entries are.
constexpr std::size_t kBatchFilesMax = 64, kBatchDirectoriesMax = 16;
constexpr std::uint64_t kBatchBytesMax = 4U << 20, kBatchWeightMax = 256U << 10;
constexpr std::uint64_t kLargeFile = 8U << 20, kSegmentBytes = 4U << 20;
constexpr std::size_t kSegmentItemsMax = 1024;
constexpr std::size_t kQueueMax = 4;
constexpr std::uint64_t kHolePieceMax = 256U << 10;

bool is_fatal(Code code) {
  return code == Code::full || code == Code::interrupted || code == Code::alarm;
}

std::uint64_t weight_of(const Entry& entry) {
  std::uint64_t weight = sizeof(FileJob) + 2 * entry.directory.size();
  for (const Xattr& xattr : entry.xattrs) weight += xattr.name.size() + xattr.value.size();
  return weight + entry.content.items.size() * sizeof(ContentItem);
}

bool all_zero(ByteSpan bytes) {
  return std::ranges::all_of(bytes, [](std::byte b) { return b == std::byte{0}; });
}

}  // namespace

void RestoreLog::add(Incomplete incomplete) {
  const std::lock_guard lock(mutex_);
  ++report_.incomplete_count;
  if (incomplete.damage) ++report_.damaged_count;
  if (report_.incomplete.size() < kIncompleteMax)
    report_.incomplete.push_back(std::move(incomplete));
}

void RestoreLog::incomplete(const Entry& entry, const std::string& path, const Error& error) {
  if (is_fatal(error.code)) return abort(error);
  if (entry.type == EntryType::file)
    count([&](RestoreReport& report) { report.bytes_missing += entry.size; });
  add({.path = path, .what = error.what, .damage = error.code == Code::corrupt});
}

bool RestoreLog::named(const std::string& path) {
  const std::lock_guard lock(mutex_);
  return std::ranges::find(report_.incomplete, path, &Incomplete::path) != report_.incomplete.end();
}

void RestoreLog::tree_damage(const Error& error) {
  add({.path = "", .what = error.what, .damage = true});
}

void RestoreLog::hard_link_left_out(const std::string& path, const Error& error) {
  const std::lock_guard lock(mutex_);
  if (!hard_links_)
    hard_links_ = {.kind = LeftOutKind::hard_link, .count = 0, .first = path, .why = error.what};
  ++hard_links_->count;
}

void RestoreLog::abort(const Error& error) {
  const std::lock_guard lock(mutex_);
  if (!error_) error_ = error;
  aborted_.store(true, std::memory_order_relaxed);
}

Result<> RestoreLog::status() {
  if (!aborted()) return {};
  const std::lock_guard lock(mutex_);
  return std::unexpected(*error_);
}

void RestoreLog::kept(std::uint64_t number) {
  const std::lock_guard lock(mutex_);
  if (kept_.size() <= number) kept_.resize(number + 1);
  kept_[number] = true;
}

bool RestoreLog::was_kept(std::uint64_t number) {
  const std::lock_guard lock(mutex_);
  return number < kept_.size() && kept_[number];
}

RestoreReport RestoreLog::take() {
  const std::lock_guard lock(mutex_);
  std::ranges::sort(report_.incomplete, {}, &Incomplete::path);
  if (hard_links_) report_.left_out.push_back(*hard_links_);
  return std::move(report_);
}

RestoreProgress RestoreLog::progress() {
  const std::lock_guard lock(mutex_);
  return {.files = report_.files + report_.kept, .bytes = report_.bytes};
}

// A file that several workers write. Whoever lets go of it last commits it.
struct LargeFile {
  FileJob job;
  std::unique_ptr<TargetFile> target;
  std::atomic<std::uint64_t> holders{1};
  std::atomic<bool> failed{false};
  std::mutex mutex;
  std::optional<Error> error;

  void fail(Error e) {
    const std::lock_guard lock(mutex);
    if (!error) error = std::move(e);
    failed.store(true);
  }
};

FileWriter::FileWriter(ChunkSource& chunks, NodeSource& nodes, Target& target, RestoreLog& log,
                       const RestoreOptions& options, const Stop& stop)
    : chunks_(chunks),
      nodes_(nodes),
      target_(target),
      log_(log),
      options_(options),
      stop_(stop),
      queue_(kQueueMax) {
  for (unsigned i = 0; i < std::max(options.workers, 1U); ++i)
    threads_.emplace_back([this] { run(); });
}

FileWriter::~FileWriter() {
  queue_.close();
  for (std::thread& thread : threads_) thread.join();
}

void FileWriter::restore(FileJob job) {
  const bool later_link = job.group && !job.settles;
  if (!later_link && (job.entry.content.root || job.entry.size > kLargeFile)) {
    flush();
    restore_large(std::move(job));
  } else {
    add(std::move(job), false);
  }
}

void FileWriter::verify(FileJob job) { add(std::move(job), true); }

void FileWriter::add(FileJob job, bool verify) {
  if (batch_.verify != verify) flush();
  const bool new_directory = batch_.jobs.empty() || batch_.jobs.back().directory != job.directory;
  if (new_directory && batch_.directories == kBatchDirectoriesMax) flush();
  batch_.verify = verify;
  batch_.directories += new_directory ? 1 : 0;
  batch_.bytes += job.entry.size;
  batch_.weight += weight_of(job.entry);
  batch_.jobs.push_back(std::move(job));
  if (batch_.jobs.size() == kBatchFilesMax || batch_.bytes >= kBatchBytesMax ||
      batch_.weight >= kBatchWeightMax)
    flush();
}

void FileWriter::flush() {
  if (batch_.jobs.empty()) return;
  push(std::exchange(batch_, Batch{}));
}

void FileWriter::push(Job job) {
  {
    const std::lock_guard lock(mutex_);
    ++unfinished_;
  }
  queue_.push(std::move(job));
}

void FileWriter::drain() {
  flush();
  std::unique_lock lock(mutex_);
  idle_.wait(lock, [&] { return unfinished_ == 0; });
}

// Every job is run to its end even when all was aborted, so that nobody waits for a link group for
// ever; it then ends at once.
void FileWriter::run() {
  std::optional<ChunkHasher> hasher;
  if (options_.verify) hasher.emplace(options_.verify());
  while (auto job = queue_.pop()) {
    if (auto* batch = std::get_if<Batch>(&*job))
      run_batch(*batch, hasher ? &*hasher : nullptr);
    else
      run_segment(std::get<FileSegment>(*job));
    job.reset();  // closes its directories before it counts as done
    const std::lock_guard lock(mutex_);
    if (--unfinished_ == 0) idle_.notify_all();
  }
}

void FileWriter::run_batch(Batch& batch, ChunkHasher* hasher) {
  Ahead ahead{.jobs = batch.jobs};
  for (FileJob& job : batch.jobs) {
    if (batch.verify)
      verify_one(job, *hasher);
    else
      restore_one(job, ahead);
    job.directory.reset();
  }
}

Result<> FileWriter::allowed() const {
  HF_TRY(log_.status());
  return stop_.check();
}

void FileWriter::read_ahead(Ahead& ahead) {
  if (ahead.read) return;
  std::vector<ChunkId> ids;
  for (const FileJob& job : ahead.jobs)
    for (const ContentItem& item : job.entry.content.items)
      if (item.chunk) ids.push_back(*item.chunk);
  ahead.read = chunks_.read_ahead(ids);
}

void FileWriter::restore_one(FileJob& job, Ahead& ahead) {
  if (!job.group || job.settles) return write_one(job, ahead);
  const auto source = job.group->wait();
  if (!source) {
    job.settles = true;
    if (!link_to_kept(job)) write_one(job, ahead);
    return;
  }
  const Result<> linked = link_one(job, *source);
  if (linked) return;
  if (is_fatal(linked.error().code)) return log_.abort(linked.error());
  // Better twice than not at all.
  log_.hard_link_left_out(job.entry.path(), linked.error());
  write_one(job, ahead);
}

Result<> FileWriter::link_one(const FileJob& job, const LinkGroup::Source& source) {
  HF_TRY(allowed());
  HF_ASSIGN(const Placed placed, target_.link({source.directory, source.name, source.identity},
                                              job.directory, job.entry));
  log_.count([&](RestoreReport& r) { ++(placed == Placed::made ? r.links : r.kept); });
  if (placed == Placed::kept && options_.verify) log_.kept(job.number);
  return {};
}

// A restore that was interrupted between the members of a group goes on to one file, not to copies.
// Nothing is said here of what fails: the file is then written.
bool FileWriter::link_to_kept(const FileJob& job) {
  const auto kept = job.group->kept();
  if (!kept || !allowed()) return false;
  {
    const auto created = target_.create(job.directory, job.entry);
    if (!created || !created->file) return false;  // it stays itself
  }
  const auto holds = holds_content(*kept, job);
  if (!holds || !*holds || !link_one(job, *kept)) return false;
  job.group->settle(kept);
  return true;
}

Result<bool> FileWriter::holds_content(const LinkGroup::Source& source, const FileJob& job) {
  Entry entry = job.entry;
  entry.directory = source.directory;
  entry.name = source.name;
  HF_ASSIGN(const DirectoryRef directory, target_.directory(source.directory));
  HF_ASSIGN(const auto file, target_.open(directory, entry));
  if (file->identity() != source.identity) return false;
  const auto same = [&](ByteSpan bytes, const ChunkId& id) -> Result<bool> {
    HF_ASSIGN(const ChunkReader::Chunk chunk, chunks_.get(id));
    return std::ranges::equal(chunk.bytes, bytes);
  };
  HF_ASSIGN(const Difference difference, compare(entry, *file, same));
  return !difference;
}

void FileWriter::write_one(const FileJob& job, Ahead& ahead) {
  done(job, write_content(job, ahead));
}

Result<TargetFile::Committed> FileWriter::write_content(const FileJob& job, Ahead& ahead) {
  HF_TRY(allowed());
  HF_ASSIGN(Target::Created created, target_.create(job.directory, job.entry));
  if (!created.file)
    return TargetFile::Committed{.placed = Placed::kept, .identity = created.existing};
  read_ahead(ahead);
  std::uint64_t offset = 0;
  ContentCursor cursor(nodes_, job.entry.content);
  while (true) {
    HF_ASSIGN(const std::optional<ContentItem> item, cursor.next());
    if (!item) break;
    if (item->length > job.entry.size - offset)
      return fail(Code::corrupt, "its pieces are longer than it");
    HF_TRY(write_item(*created.file, offset, *item));
    offset += item->length;
  }
  HF_TRY(cursor.check_size(job.entry.size));
  return created.file->commit();
}

Result<> FileWriter::write_item(TargetFile& file, std::uint64_t offset, const ContentItem& item) {
  if (!item.chunk) return {};
  auto chunk = chunks_.get(*item.chunk);
  if (!chunk) {
    Error error = std::move(chunk).error();
    if (error.code == Code::unavailable) log_.abort(error);
    if (error.code == Code::not_found) error.code = Code::corrupt;
    return std::unexpected(std::move(error));
  }
  if (chunk->bytes.size() != item.length)
    return fail(Code::corrupt, "chunk " + item.chunk->hex() + ": its length is not the entry's");
  return file.write(offset, chunk->bytes);
}

void FileWriter::settle(const FileJob& job, const Result<TargetFile::Committed>& result) {
  std::optional<LinkGroup::Source> source;
  if (result && result->identity) source = {job.entry.directory, job.entry.name, *result->identity};
  if (source && result->placed == Placed::kept) {
    job.group->keep(*source);
    source.reset();
  }
  job.group->settle(std::move(source));
}

void FileWriter::done(const FileJob& job, const Result<TargetFile::Committed>& result) {
  if (job.settles) settle(job, result);
  if (!result) return log_.incomplete(job.entry, job.path, result.error());
  if (result->placed == Placed::kept && options_.verify) log_.kept(job.number);
  log_.count([&](RestoreReport& report) {
    if (result->placed == Placed::kept) {
      ++report.kept;
      return;
    }
    ++report.files;
    report.bytes += job.entry.size;
  });
}

void FileWriter::restore_large(FileJob job) {
  auto file = std::make_shared<LargeFile>();
  file->job = std::move(job);
  auto created = target_.create(file->job.directory, file->job.entry);
  if (!created) return done(file->job, std::unexpected(std::move(created).error()));
  if (!created->file)
    return done(file->job, TargetFile::Committed{Placed::kept, created->existing});
  file->target = std::move(created->file);
  if (Result<> result = cut(file); !result) file->fail(std::move(result).error());
  release(file);
}

// Segments of about kSegmentBytes, in order.
Result<> FileWriter::cut(const std::shared_ptr<LargeFile>& file) {
  const Entry& entry = file->job.entry;
  ContentCursor cursor(nodes_, entry.content);
  FileSegment segment{.file = file, .offset = 0, .items = {}};
  std::uint64_t offset = 0;
  const auto send = [&] {
    if (segment.items.empty()) return;
    file->holders.fetch_add(1);
    push(std::exchange(segment, FileSegment{.file = file, .offset = offset, .items = {}}));
  };
  while (!file->failed.load()) {
    HF_TRY(allowed());
    HF_ASSIGN(const std::optional<ContentItem> item, cursor.next());
    if (!item) break;
    if (item->length > entry.size - offset)
      return fail(Code::corrupt, "its pieces are longer than it");
    if (item->chunk) segment.items.push_back(*item);
    offset += item->length;
    // A hole ends a segment: only what is written is in it.
    if (!item->chunk || offset - segment.offset >= kSegmentBytes ||
        segment.items.size() == kSegmentItemsMax)
      send();
    if (segment.items.empty()) segment.offset = offset;
  }
  send();
  if (file->failed.load()) return {};
  return cursor.check_size(entry.size);
}

void FileWriter::run_segment(const FileSegment& segment) {
  std::vector<ChunkId> ids;
  ids.reserve(segment.items.size());
  for (const ContentItem& item : segment.items) ids.push_back(*item.chunk);
  const auto ahead = chunks_.read_ahead(ids);
  std::uint64_t offset = segment.offset;
  for (const ContentItem& item : segment.items) {
    if (segment.file->failed.load()) break;
    Result<> result = allowed();
    if (result) result = write_item(*segment.file->target, offset, item);
    if (!result) segment.file->fail(std::move(result).error());
    offset += item.length;
  }
  release(segment.file);
}

void FileWriter::release(const std::shared_ptr<LargeFile>& file) {
  if (file->holders.fetch_sub(1) != 1) return;
  if (file->error) {
    file->target.reset();
    return done(file->job, std::unexpected(*file->error));
  }
  done(file->job, file->target->commit());
  file->target.reset();
  file->job.directory.reset();
}

void FileWriter::verify_one(const FileJob& job, ChunkHasher& hasher) {
  const auto same = [&](ByteSpan bytes, const ChunkId& id) -> Result<bool> {
    return hasher.id(ChunkType::data, bytes) == id;
  };
  const auto check = [&]() -> Result<> {
    HF_TRY(allowed());
    HF_ASSIGN(const auto file, target_.open(job.directory, job.entry));
    HF_ASSIGN(const Difference difference, compare(job.entry, *file, same));
    if (!difference) return {};
    // What we did not write says nothing about the repository.
    if (log_.was_kept(job.number))
      return fail(Code::conflict, "kept, and differs from the snapshot: " + *difference);
    return fail(Code::corrupt, *difference + ": restore it again");
  };
  const Result<> result = check();
  if (!result) {
    if (log_.named(job.path)) return;  // what was not restored need not be said twice
    return log_.incomplete(job.entry, job.path,
                           Error{result.error().code, "verify: " + result.error().what});
  }
  log_.count([](RestoreReport& report) { ++report.verified; });
}

Result<FileWriter::Difference> FileWriter::compare(const Entry& entry, RestoredFile& file,
                                                   const SameChunk& same) {
  if (file.size() != entry.size) return "it has another size";
  ContentCursor cursor(nodes_, entry.content);
  Bytes buffer;
  std::uint64_t offset = 0;
  while (true) {
    HF_TRY(allowed());
    HF_ASSIGN(const std::optional<ContentItem> item, cursor.next());
    if (!item) return std::nullopt;
    if (item->length > entry.size - offset)
      return fail(Code::corrupt, "its pieces are longer than it");
    if (!item->chunk) {
      HF_ASSIGN(Difference difference, compare_hole(file, offset, offset + item->length));
      if (difference) return difference;
    } else {
      if (item->length > kFramePlainMax) return fail(Code::corrupt, "a piece of it is too long");
      buffer.resize(item->length);
      HF_TRY(file.read(offset, buffer));
      HF_ASSIGN(const bool is_same, same(buffer, *item->chunk));
      if (!is_same) return "it differs at " + std::to_string(offset);
    }
    offset += item->length;
  }
}

// A hole there, or zeros. Holes are not read: they may be larger than anything that can be.
Result<FileWriter::Difference> FileWriter::compare_hole(RestoredFile& file, std::uint64_t offset,
                                                        std::uint64_t end) {
  Bytes buffer;
  while (true) {
    offset = file.next_data(offset);
    if (offset >= end) return std::nullopt;
    HF_TRY(allowed());
    buffer.resize(std::min<std::uint64_t>(end - offset, kHolePieceMax));
    HF_TRY(file.read(offset, buffer));
    if (!all_zero(buffer)) return "it differs at " + std::to_string(offset);
    offset += buffer.size();
  }
}

}  // namespace holdfast
