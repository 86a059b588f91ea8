// SPDX-License-Identifier: Apache-2.0
#include "fs/owners.h"

#include <grp.h>
#include <pwd.h>

#include <cerrno>

namespace holdfast {
namespace {

constexpr std::size_t kRememberedMax = 65536;
constexpr std::size_t kBufferMax = 1024UL * 1024UL;  // a group may have many members

// `ask` fills a buffer as getpwuid_r does; asked again with more room when it was too small.
template <class Ask>
std::string ask_growing(Ask ask) {
  for (std::size_t size = 4096; size <= kBufferMax; size *= 4) {
    std::string buffer(size, '\0');
    std::string name;
    const int error = ask(buffer, name);
    if (error != ERANGE) return error == 0 ? name : std::string();
  }
  return {};
}

std::string user_name(std::uint32_t uid) {
  return ask_growing([uid](std::string& buffer, std::string& name) {
    passwd record{};
    passwd* found = nullptr;
    const int error = ::getpwuid_r(uid, &record, buffer.data(), buffer.size(), &found);
    if (found != nullptr) name = found->pw_name;
    return error;
  });
}

std::string group_name(std::uint32_t gid) {
  return ask_growing([gid](std::string& buffer, std::string& name) {
    group record{};
    group* found = nullptr;
    const int error = ::getgrgid_r(gid, &record, buffer.data(), buffer.size(), &found);
    if (found != nullptr) name = found->gr_name;
    return error;
  });
}

template <class Ask>
std::string remembered(std::unordered_map<std::uint32_t, std::string>& known, std::uint32_t id,
                       Ask ask) {
  if (const auto it = known.find(id); it != known.end()) return it->second;
  std::string name = ask(id);
  if (known.size() < kRememberedMax) known.emplace(id, name);
  return name;
}

}  // namespace

std::string SystemOwners::user(std::uint32_t uid) { return remembered(users_, uid, user_name); }
std::string SystemOwners::group(std::uint32_t gid) { return remembered(groups_, gid, group_name); }

}  // namespace holdfast
