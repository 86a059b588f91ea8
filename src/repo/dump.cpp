// SPDX-License-Identifier: Apache-2.0
#include "repo/dump.h"

#include <archive.h>
#include <archive_entry.h>
#include <fmt/format.h>
#include <locale.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <memory>
#include <optional>

#include "base/parallel.h"
#include "repo/link_groups.h"

namespace holdfast {
namespace {

constexpr std::size_t kExtentsMax = 4096;  // of a sparse file; one of more is written with zeros
constexpr std::array<std::byte, 65536> kZeros{};

// As many chunks as are fetched together, and as many of them in a row by one thread: neighbours
// lie in one frame, which is read once.
constexpr std::size_t kBatchBytes = 12U << 20, kRowBytes = 1U << 20;

// Calls put for each piece of a file: bytes of a chunk, or zeros of a hole.
class Pieces {
 public:
  Pieces(ChunkSource& chunks, unsigned workers, const Stop& stop, const DumpWriter& put)
      : chunks_(chunks), workers_(std::max(workers, 1U)), stop_(stop), put_(put) {}

  Result<> put_all(NodeSource& nodes, const Entry& entry) {
    ContentCursor cursor(nodes, entry.content);
    while (true) {
      HF_TRY(stop_.check());
      HF_ASSIGN(const std::optional<ContentItem> item, cursor.next());
      if (!item || !item->chunk || bytes_ >= kBatchBytes) HF_TRY(put_batch());
      if (!item) return cursor.check_size(entry.size);
      if (item->chunk) {
        if (rows_.empty() || row_bytes_ >= kRowBytes) {
          rows_.push_back(items_.size());
          row_bytes_ = 0;
        }
        items_.push_back(*item);
        bytes_ += item->length;
        row_bytes_ += item->length;
      } else {
        HF_TRY(put_zeros(item->length));
      }
    }
  }

 private:
  Result<> put_batch() {
    got_.assign(items_.size(), {});
    parallel_for(workers_, rows_.size(), [&](std::size_t row) {
      const std::size_t end = row + 1 < rows_.size() ? rows_[row + 1] : items_.size();
      for (std::size_t i = rows_[row]; i < end; ++i) {
        got_[i] = chunks_.get(*items_[i].chunk);
        if (!got_[i] || stop_.requested()) return;
      }
    });
    HF_TRY(stop_.check());
    for (std::size_t i = 0; i < items_.size(); ++i) {
      HF_TRY(got_[i]);
      if (got_[i]->bytes.size() != items_[i].length)
        return fail(Code::corrupt,
                    "chunk " + items_[i].chunk->hex() + ": its length is not the entry's");
      HF_TRY(put_(got_[i]->bytes));
    }
    items_.clear();
    rows_.clear();
    got_.clear();
    bytes_ = 0;
    return {};
  }

  Result<> put_zeros(std::uint64_t left) {
    while (left > 0) {
      HF_TRY(stop_.check());
      const auto part = static_cast<std::size_t>(std::min<std::uint64_t>(left, kZeros.size()));
      HF_TRY(put_(ByteSpan(kZeros).first(part)));
      left -= part;
    }
    return {};
  }

  ChunkSource& chunks_;
  const unsigned workers_;
  const Stop& stop_;
  const DumpWriter& put_;
  std::vector<ContentItem> items_;
  std::vector<std::size_t> rows_;  // where each begins in items_
  std::vector<Result<ChunkReader::Chunk>> got_;
  std::size_t bytes_ = 0, row_bytes_ = 0;
};

// While it lives, libarchive takes the strings of this thread's entries for UTF-8, which is what
// pax headers are; in the locale of a program that sets none, only ASCII would be.
class Utf8Locale {
 public:
  Utf8Locale() : utf8_(::newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr)) {
    if (utf8_ != nullptr) before_ = ::uselocale(utf8_);
  }
  ~Utf8Locale() {
    if (utf8_ == nullptr) return;
    ::uselocale(before_);
    ::freelocale(utf8_);
  }
  Utf8Locale(const Utf8Locale&) = delete;
  Utf8Locale& operator=(const Utf8Locale&) = delete;

 private:
  locale_t utf8_, before_ = nullptr;
};

// The writer behind libarchive. Keeps the writer's own error, which libarchive has no place for.
class Archive {
 public:
  explicit Archive(const DumpWriter& writer) : writer_(writer), archive_(archive_write_new()) {}
  ~Archive() { archive_write_free(archive_); }
  Archive(const Archive&) = delete;
  Archive& operator=(const Archive&) = delete;

  Result<> open() {
    // Not the restricted form: that leaves out fractions of times where nothing else is special.
    // Names that are not UTF-8 get hdrcharset=BINARY, of which GNU tar warns; so not all.
    archive_write_set_format_pax(archive_);
    archive_write_set_bytes_per_block(archive_, 64 * 1024);
    archive_write_set_bytes_in_last_block(archive_, 10240);
    return check(archive_write_open2(archive_, this, nullptr, &Archive::write, nullptr, nullptr));
  }
  Result<> header(archive_entry* entry) { return check(archive_write_header(archive_, entry)); }
  Result<> data(ByteSpan bytes) {
    while (!bytes.empty()) {
      const la_ssize_t n = archive_write_data(archive_, bytes.data(), bytes.size());
      if (n <= 0) return check(ARCHIVE_FATAL);
      bytes = bytes.subspan(static_cast<std::size_t>(n));
    }
    return {};
  }
  Result<> close() { return check(archive_write_close(archive_)); }

 private:
  static la_ssize_t write(archive* a, void* self, const void* data, std::size_t size) {
    auto* archive = static_cast<Archive*>(self);
    auto result = archive->writer_({static_cast<const std::byte*>(data), size});
    if (result) return static_cast<la_ssize_t>(size);
    archive->error_ = std::move(result).error();
    archive_set_error(a, 0, "write failed");
    return -1;
  }
  Result<> check(int status) {
    if (error_) return std::unexpected(*error_);
    if (status == ARCHIVE_OK || status == ARCHIVE_WARN) return {};
    const char* text = archive_error_string(archive_);
    return fail(Code::invalid, fmt::format("tar: {}", text == nullptr ? "failed" : text));
  }

  const DumpWriter& writer_;
  std::optional<Error> error_;
  archive* archive_;
};

struct EntryFree {
  void operator()(archive_entry* entry) const { archive_entry_free(entry); }
};
using TarEntry = std::unique_ptr<archive_entry, EntryFree>;

mode_t file_type(EntryType type) {
  switch (type) {
    case EntryType::directory:
      return S_IFDIR;
    case EntryType::file:
      return S_IFREG;
    case EntryType::symlink:
      return S_IFLNK;
    case EntryType::fifo:
      return S_IFIFO;
    case EntryType::char_device:
      return S_IFCHR;
    case EntryType::block_device:
      return S_IFBLK;
  }
  return S_IFREG;
}

// The kernel's encoding of a POSIX ACL (linux/posix_acl_xattr.h): u32 2, then u16 tag, u16
// permissions, u32 id. False when it is none.
bool add_acl(archive_entry* entry, int type, ByteSpan value) {
  Reader in(value);
  if (in.u32() != 2 || in.left() % 8 != 0) return false;
  while (in.left() > 0) {
    const std::uint16_t tag = in.u16(), permissions = in.u16();
    const auto id = static_cast<int>(in.u32());
    const int known = tag == 0x01   ? ARCHIVE_ENTRY_ACL_USER_OBJ
                      : tag == 0x02 ? ARCHIVE_ENTRY_ACL_USER
                      : tag == 0x04 ? ARCHIVE_ENTRY_ACL_GROUP_OBJ
                      : tag == 0x08 ? ARCHIVE_ENTRY_ACL_GROUP
                      : tag == 0x10 ? ARCHIVE_ENTRY_ACL_MASK
                      : tag == 0x20 ? ARCHIVE_ENTRY_ACL_OTHER
                                    : 0;
    if (known == 0 || permissions > 7) return false;
    archive_entry_acl_add_entry(entry, type, permissions, known, id, nullptr);
  }
  return true;
}

void add_xattrs(archive_entry* to, const Entry& entry) {
  for (const Xattr& xattr : entry.xattrs) {
    if (xattr.name == "system.posix_acl_access") {
      if (add_acl(to, ARCHIVE_ENTRY_ACL_TYPE_ACCESS, as_bytes(xattr.value))) continue;
      archive_entry_acl_clear(to);
    } else if (xattr.name == "system.posix_acl_default") {
      if (add_acl(to, ARCHIVE_ENTRY_ACL_TYPE_DEFAULT, as_bytes(xattr.value))) continue;
      archive_entry_acl_clear(to);
    }
    archive_entry_xattr_add_entry(to, xattr.name.c_str(), xattr.value.data(), xattr.value.size());
  }
}

void add_names(archive_entry* to, const Entry& entry, const DumpOwners& owners) {
  if (owners.users != nullptr)
    if (const auto name = owners.users->find(entry.uid); name != owners.users->end())
      archive_entry_copy_uname(to, name->second.c_str());
  if (owners.groups != nullptr)
    if (const auto name = owners.groups->find(entry.gid); name != owners.groups->end())
      archive_entry_copy_gname(to, name->second.c_str());
}

// Where a file has data, when it has holes too and not too many pieces.
Result<> add_extents(archive_entry* to, NodeSource& nodes, const Entry& entry) {
  struct Extent {
    std::uint64_t offset, length;
  };
  std::vector<Extent> extents;
  ContentCursor cursor(nodes, entry.content);
  std::uint64_t offset = 0;
  bool holes = false, joined = false;
  while (extents.size() <= kExtentsMax) {
    HF_ASSIGN(const std::optional<ContentItem> item, cursor.next());
    if (!item) break;
    holes = holes || !item->chunk;
    if (item->chunk && joined) extents.back().length += item->length;
    if (item->chunk && !joined) extents.push_back({offset, item->length});
    joined = item->chunk.has_value();
    offset += item->length;
  }
  if (!holes || extents.size() > kExtentsMax) return {};
  // All of it a hole: one extent of nothing says so.
  if (extents.empty()) extents.push_back({entry.size, 0});
  for (const Extent& extent : extents)
    archive_entry_sparse_add_entry(to, static_cast<la_int64_t>(extent.offset),
                                   static_cast<la_int64_t>(extent.length));
  return {};
}

class TarDump {
 public:
  TarDump(ChunkSource& chunks, NodeSource& nodes, const DumpOwners& owners, unsigned workers,
          const DumpWriter& writer, const Stop& stop)
      : chunks_(chunks),
        nodes_(nodes),
        owners_(owners),
        workers_(workers),
        stop_(stop),
        archive_(writer) {}

  Result<> run(const TreeRoot& root, const std::string& top) {
    HF_TRY(archive_.open());
    TreeCursor cursor(nodes_, root);
    if (!top.empty()) HF_TRY(cursor.seek(top, ""));
    while (true) {
      HF_TRY(stop_.check());
      HF_ASSIGN(const Entry* entry, cursor.next());
      if (entry == nullptr || !is_below(entry->directory, top)) break;
      if (Result<> added = add(*entry, top); !added)
        return wrap(std::move(added).error(), escaped(entry->path()));
    }
    return archive_.close();
  }

 private:
  static bool is_below(std::string_view directory, std::string_view top) {
    if (top.empty() || directory == top) return true;
    return directory.size() > top.size() && directory.starts_with(top) &&
           directory[top.size()] == '/';
  }

  Result<> add(const Entry& entry, const std::string& top) {
    const std::size_t skip = top.empty() ? 0 : top.size() + 1;
    const TarEntry to(archive_entry_new());
    archive_entry_copy_pathname(to.get(), entry.path().substr(skip).c_str());
    archive_entry_set_mode(to.get(), file_type(entry.type) | (entry.mode & 07777));
    archive_entry_set_uid(to.get(), entry.uid);
    archive_entry_set_gid(to.get(), entry.gid);
    archive_entry_set_mtime(to.get(), static_cast<time_t>(entry.mtime.seconds),
                            static_cast<long>(entry.mtime.nanoseconds));
    archive_entry_set_rdev(to.get(), entry.rdev);
    if (entry.flags != 0) archive_entry_set_fflags(to.get(), entry.flags, 0);
    add_names(to.get(), entry, owners_);
    add_xattrs(to.get(), entry);
    if (entry.type == EntryType::symlink)
      archive_entry_copy_symlink(to.get(), entry.link_target.c_str());
    if (entry.type == EntryType::file) return add_file(entry, to.get(), skip);
    return archive_.header(to.get());
  }

  Result<> add_file(const Entry& entry, archive_entry* to, std::size_t skip) {
    const LinkGroups::Place place = links_.place(entry);
    if (place.group && !place.first) {
      const LinkGroup& group = *place.group;
      const std::string first =
          group.directory.empty() ? group.name : group.directory + "/" + group.name;
      archive_entry_copy_hardlink(to, first.substr(skip).c_str());
      archive_entry_set_size(to, 0);
      return archive_.header(to);
    }
    archive_entry_set_size(to, static_cast<la_int64_t>(entry.size));
    HF_TRY(add_extents(to, nodes_, entry));
    HF_TRY(archive_.header(to));
    const DumpWriter put = [&](ByteSpan bytes) { return archive_.data(bytes); };
    return Pieces(chunks_, workers_, stop_, put).put_all(nodes_, entry);
  }

  ChunkSource& chunks_;
  NodeSource& nodes_;
  const DumpOwners& owners_;
  const unsigned workers_;
  const Stop& stop_;
  Archive archive_;
  LinkGroups links_;
};

}  // namespace

Result<> dump(ChunkSource& chunks, NodeSource& nodes, const TreeRoot& root, const std::string& path,
              const DumpOwners& owners, unsigned workers, const DumpWriter& writer,
              const Stop& stop) {
  HF_TRY(check_entry_directory(path));
  if (!path.empty()) {
    HF_ASSIGN(const Entry entry, find_entry(nodes, root, path));
    if (entry.type == EntryType::file) {
      Result<> done = Pieces(chunks, workers, stop, writer).put_all(nodes, entry);
      if (!done) return wrap(std::move(done).error(), escaped(path));
      return {};
    }
    if (entry.type != EntryType::directory)
      return fail(Code::invalid, escaped(path) + ": only files and directories can be dumped");
  }
  const Utf8Locale utf8;
  TarDump tar(chunks, nodes, owners, workers, writer, stop);
  return tar.run(root, path);
}

}  // namespace holdfast
