// SPDX-License-Identifier: Apache-2.0
#include "fs/starts.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>

#include "base/bytes.h"
#include "repo/entry.h"

namespace holdfast {
namespace {

constexpr int kLinksMax = 40;  // as the kernel
constexpr int kStep = O_PATH | O_NOFOLLOW | O_CLOEXEC;

// Components still to go, the next one last.
using Pending = std::vector<std::string>;

void push_components(Pending& pending, std::string_view path) {
  std::vector<std::string_view> parts;
  while (!path.empty()) {
    const std::size_t slash = std::min(path.find('/'), path.size());
    if (slash > 0) parts.push_back(path.substr(0, slash));
    path.remove_prefix(std::min(slash + 1, path.size()));
  }
  pending.insert(pending.end(), parts.rbegin(), parts.rend());
}

Opened open_step(int at, const char* name) {
  const int fd = ::openat(at, name, kStep);
  if (fd < 0) return std::unexpected(errno);
  return Fd(fd);
}

// Reads the link that `link` stands for; an absolute one starts again from the root.
int follow(const Fd& link, const struct stat& st, Fd& at, Pending& pending) {
  if (st.st_uid != 0 && st.st_uid != ::geteuid()) return EPERM;
  std::array<char, PATH_MAX> target{};
  const ssize_t length = ::readlinkat(link.get(), "", target.data(), target.size());
  if (length < 0) return errno;
  const std::string_view text(target.data(), static_cast<std::size_t>(length));
  if (text.starts_with('/')) {
    Opened root = open_step(AT_FDCWD, "/");
    if (!root) return root.error();
    at = std::move(*root);
  }
  push_components(pending, text);
  return 0;
}

}  // namespace

Result<std::string> normal_start(std::string_view path) {
  const auto refuse = [&](std::string_view why) {
    return fail(Code::invalid,
                "path \"" + escaped(path.substr(0, 512)) + "\": " + std::string(why));
  };
  if (!path.starts_with('/')) return refuse("it is not absolute");
  Pending pending;
  push_components(pending, path);
  std::vector<std::string> kept;
  for (; !pending.empty(); pending.pop_back()) {
    if (pending.back() == ".") continue;
    if (pending.back() == "..") {
      if (!kept.empty()) kept.pop_back();
      continue;
    }
    if (!check_entry_name(pending.back())) return refuse("a component is not a file name");
    kept.push_back(pending.back());
  }
  std::string out;
  for (const std::string& part : kept) out += (out.empty() ? "" : "/") + part;
  if (out.size() > kPathMax) return refuse("it is longer than 4096 bytes");
  return out;
}

Result<Starts> merge_starts(const std::vector<std::string>& paths) {
  if (paths.empty()) return fail(Code::invalid, "no path to back up was named");
  std::vector<std::string> all;
  for (const std::string& path : paths) {
    HF_ASSIGN(std::string start, normal_start(path));
    all.push_back(std::move(start));
  }
  std::ranges::sort(all,
                    [](const auto& a, const auto& b) { return compare_directories(a, b) < 0; });
  all.erase(std::ranges::unique(all).begin(), all.end());
  Starts out;
  for (std::string& start : all) {
    const bool nested =
        !out.tops.empty() && (out.tops.back().empty() || start.starts_with(out.tops.back() + "/"));
    (nested ? out.nested : out.tops).push_back(std::move(start));
  }
  return out;
}

Opened open_ancestor(std::string_view path) {
  Opened root = open_step(AT_FDCWD, "/");
  if (!root) return root;
  Fd at = std::move(*root);
  Pending pending;
  push_components(pending, path);
  int links = 0;
  while (!pending.empty()) {
    const std::string name = std::move(pending.back());
    pending.pop_back();
    Opened next = open_step(at.get(), name.c_str());
    if (!next) return next;
    struct stat st{};
    if (::fstat(next->get(), &st) != 0) return std::unexpected(errno);
    if (S_ISLNK(st.st_mode)) {
      if (++links > kLinksMax) return std::unexpected(ELOOP);
      if (const int error = follow(*next, st, at, pending); error != 0)
        return std::unexpected(error);
    } else if (S_ISDIR(st.st_mode)) {
      at = std::move(*next);
    } else {
      return std::unexpected(ENOTDIR);
    }
  }
  return at;
}

}  // namespace holdfast
