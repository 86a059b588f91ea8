// SPDX-License-Identifier: Apache-2.0
#include "store/object_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <barrier>
#include <optional>
#include <thread>

#include "base/parallel.h"

namespace holdfast {
namespace {

constexpr std::size_t kNameMax = 200;

bool allowed(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
}

// What is wrong with one part between slashes, or nothing.
std::string_view part_rule(std::string_view part) {
  if (part.empty()) return "a part between '/' is empty";
  if (part == "." || part == "..") return "a part is \".\" or \"..\"";
  if (!std::ranges::all_of(part, allowed)) return "a byte is not one of a-z 0-9 . _ -";
  return {};
}

std::string_view broken_rule(std::string_view name) {
  if (name.empty()) return "it is empty";
  if (name.size() > kNameMax) return "it is longer than 200 bytes";
  for (std::size_t begin = 0; begin <= name.size();) {
    const std::size_t end = std::min(name.find('/', begin), name.size());
    if (const auto rule = part_rule(name.substr(begin, end - begin)); !rule.empty()) return rule;
    begin = end + 1;
  }
  return {};
}

}  // namespace

Result<StoreLock> ObjectStore::lock() {
  return StoreLock{.why_not = "in a folder, whoever can write can delete"};
}

Result<> ObjectStore::keep_until(std::string_view name, Time) {
  return fail(Code::denied, fmt::format("{}: this store locks nothing", escaped(name)));
}

Result<ObjectStore::Tail> ObjectStore::get_tail(std::string_view name, std::size_t most) {
  HF_ASSIGN(const std::uint64_t there, size(name));
  Tail tail{.size = there, .bytes = Bytes(std::min<std::uint64_t>(there, most))};
  HF_TRY(get_range(name, there - tail.bytes.size(), tail.bytes));
  return tail;
}

std::vector<Result<Bytes>> get_together(ObjectStore& store, std::span<const std::string> names,
                                        std::uint64_t size_max) {
  std::vector<Result<Bytes>> objects(names.size());
  parallel_for(store.parallel(), names.size(),
               [&](std::size_t i) { objects[i] = store.get(names[i], size_max); });
  return objects;
}

Result<> list_at_most(ObjectStore& store, std::string_view prefix, std::uint64_t count_max,
                      const std::function<Result<>(const ObjectInfo&)>& visit) {
  std::uint64_t count = 0;
  return store.list(prefix, [&](const ObjectInfo& info) -> Result<> {
    if (++count > count_max)
      return fail(Code::corrupt,
                  fmt::format("list {}: more than {} objects, the most that are taken; the store "
                              "makes them up, or holds another thing than a repository",
                              escaped(prefix), count_max));
    return visit(info);
  });
}

namespace {

constexpr std::size_t kRacers = 4, kRaces = 3;

std::unexpected<Error> lacking(std::string_view what) {
  return fail(Code::denied,
              fmt::format("this store cannot hold a repository: {}. Two devices, or a device and a "
                          "prune, could overwrite each other there; use another store",
                          what));
}

struct Race {
  std::string name;
  std::array<Bytes, kRacers> contents;
  std::array<Result<>, kRacers> results{};
};

Race draw_race(Random& random) {
  std::array<std::byte, 16> drawn{};
  random.fill(drawn);
  Race race{.name = "probe/" + to_hex(drawn), .contents = {}};
  for (Bytes& content : race.contents) {
    random.fill(drawn);
    content.assign(drawn.begin(), drawn.end());
  }
  return race;
}

void run(Race& race, ObjectStore& store) {
  std::barrier start(kRacers);
  std::array<std::thread, kRacers> racers;
  for (std::size_t n = 0; n < kRacers; ++n)
    racers[n] = std::thread([&, n] {
      start.arrive_and_wait();
      race.results[n] = store.put(race.name, race.contents[n]);
    });
  for (std::thread& racer : racers) racer.join();
}

Result<bool> listed(ObjectStore& store, const std::string& name) {
  bool found = false;
  HF_TRY(store.list("probe/", [&](const ObjectInfo& info) -> Result<> {
    found |= info.name == name;
    return {};
  }));
  return found;
}

// Of the put that won.
Result<std::size_t> winner(const Race& race) {
  std::optional<std::size_t> won;
  for (std::size_t n = 0; n < kRacers; ++n) {
    const Result<>& result = race.results[n];
    if (!result && result.error().code != Code::conflict) return std::unexpected(result.error());
    if (result && won) return lacking("of several puts under one new name more than one succeeded");
    if (result) won = n;
  }
  if (!won) return lacking("of several puts under one new name none succeeded");
  return *won;
}

Result<> judge(const Race& race, ObjectStore& store) {
  HF_ASSIGN(const std::size_t won, winner(race));
  const auto there = store.get(race.name, race.contents[won].size());
  if (!there || *there != race.contents[won])
    return lacking("what a put that succeeded stored is not there");
  const auto late = store.put(race.name, race.contents[(won + 1) % kRacers]);
  if (late || late.error().code != Code::conflict)
    return lacking("a put under a name that is taken did not fail");
  HF_ASSIGN(const bool seen, listed(store, race.name));
  if (!seen) return lacking("a listing leaves out what was put before");
  HF_TRY(store.remove(race.name));
  HF_ASSIGN(const bool still, listed(store, race.name));
  if (still || store.size(race.name)) return lacking("what was removed is still there");
  return {};
}

}  // namespace

Result<> prove_put_if_absent(ObjectStore& store, Random& random) {
  for (std::size_t n = 0; n < kRaces; ++n) {
    Race race = draw_race(random);
    run(race, store);
    auto judged = judge(race, store);
    if (judged) continue;
    [[maybe_unused]] const auto tidied = store.remove(race.name);
    return judged;
  }
  return {};
}

Result<> check_object_name(std::string_view name) {
  const std::string_view rule = broken_rule(name);
  if (rule.empty()) return {};
  return fail(Code::invalid, "object name \"" + escaped(name.substr(0, kNameMax)) +
                                 "\" is refused: " + std::string(rule));
}

Result<> check_list_prefix(std::string_view prefix) {
  if (prefix.empty()) return {};
  if (!prefix.ends_with('/'))
    return fail(Code::invalid, "list \"" + escaped(prefix.substr(0, kNameMax)) +
                                   "\" is refused: a prefix ends with '/'");
  return check_object_name(prefix.substr(0, prefix.size() - 1));
}

}  // namespace holdfast
