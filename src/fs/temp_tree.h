// SPDX-License-Identifier: Apache-2.0
// For tests of what writes into a file system: a target, and beside it an outside that must never
// change.
#pragma once

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>

namespace holdfast {

class TempTree : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "hf-restore-XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    base_ = pattern;
    ::mkdir(outside("").c_str(), 0755);
    put(outside("passwd"), "sentinel");
    before_ = picture();
  }
  void TearDown() override {
    EXPECT_EQ(picture(), before_) << "something outside of the target was changed";
    std::error_code ignored;
    std::filesystem::remove_all(base_, ignored);
  }
  // Everything outside: content, inode, mode, owner, times, number of links.
  [[nodiscard]] std::map<std::string, std::string> picture() const {
    std::map<std::string, std::string> out;
    out["."] = describe(outside(""));
    for (const auto& at : std::filesystem::recursive_directory_iterator(outside("")))
      out[at.path()] = describe(at.path());
    return out;
  }
  static std::string describe(const std::string& path) {
    const struct stat s = status(path);
    std::ostringstream text;
    text << s.st_ino << ' ' << s.st_mode << ' ' << s.st_nlink << ' ' << s.st_uid << ' ' << s.st_gid
         << ' ' << s.st_mtim.tv_sec << '.' << s.st_mtim.tv_nsec << ' '
         << (S_ISREG(s.st_mode) ? get(path) : "");
    return text.str();
  }
  static struct stat status(const std::string& path) {
    struct stat s{};
    EXPECT_EQ(::lstat(path.c_str(), &s), 0) << path;
    return s;
  }
  static bool exists(const std::string& path) {
    struct stat s{};
    return ::lstat(path.c_str(), &s) == 0;
  }
  static std::string get(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  static void put(const std::string& path, const std::string& text) {
    std::ofstream(path, std::ios::binary) << text;
  }
  static void plant(const std::string& to, const std::string& path) {
    ASSERT_EQ(::symlink(to.c_str(), path.c_str()), 0);
  }
  [[nodiscard]] std::string outside(const std::string& path) const {
    return base_ + "/outside" + (path.empty() ? "" : "/") + path;
  }
  [[nodiscard]] std::string target(const std::string& path) const {
    return base_ + "/target" + (path.empty() ? "" : "/") + path;
  }
  // Names in a directory, to see that no temporary file stays.
  static std::size_t count(const std::string& directory) {
    std::size_t n = 0;
    for ([[maybe_unused]] const auto& at : std::filesystem::directory_iterator(directory)) ++n;
    return n;
  }

  std::string base_;
  std::map<std::string, std::string> before_;
};

}  // namespace holdfast
