// SPDX-License-Identifier: Apache-2.0
// Where sealed objects lie. Two properties carry all safety: put-if-absent is atomic, and what was
// put is seen by every later get and list. docs/formats/repository.md, "Stores".
#pragma once

#include <algorithm>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/world.h"

namespace holdfast {

struct ObjectInfo {
  std::string name;
  std::uint64_t size;
  Time put{};  // by the store's clock; from stores that lock, 0 from others
};

// What a store does against deleting.
struct StoreLock {
  // Nobody can delete or change what keep_until() named, whatever keys he has.
  bool enforced = false;
  std::string why_not{};  // for people
  Time now{};             // by the store's clock
};

// A resource: no fields, no default arguments, not copyable. All calls may be made from several
// threads at once. Names: 1 to 200 bytes of [a-z0-9._-] in parts joined by single '/', no part "."
// or ".."; Code::invalid otherwise.
class ObjectStore {
 public:
  ObjectStore() = default;
  ObjectStore(const ObjectStore&) = delete;
  ObjectStore& operator=(const ObjectStore&) = delete;
  virtual ~ObjectStore() = default;
  // Put-if-absent. Ok means durable, and that exactly these bytes stand there: repeating a put is
  // ok. Other bytes under that name: Code::conflict, and they are left as they are. Code::full: no
  // space; nothing is there under the name then.
  virtual Result<> put(std::string_view name, ByteSpan bytes) = 0;
  // The same, for a caller that wants to fill the buffer again: `taken` is called, on this thread
  // and at most once, when `bytes` are not looked at any more. Ok still means durable.
  virtual Result<> put_from(std::string_view name, ByteSpan bytes,
                            const std::function<void()>& taken) {
    auto done = put(name, bytes);
    taken();
    return done;
  }
  // The whole object, at most `size_max` bytes (larger: Code::corrupt). Code::not_found.
  virtual Result<Bytes> get(std::string_view name, std::uint64_t size_max) = 0;
  // Exactly out.size() bytes from `offset`; reaching past the end is Code::corrupt.
  virtual Result<> get_range(std::string_view name, std::uint64_t offset, MutableByteSpan out) = 0;
  virtual Result<std::uint64_t> size(std::string_view name) = 0;
  // The last bytes of the object, at most `most` (more than 0), and how large it is; for a store
  // that is far away in one journey.
  struct Tail {
    std::uint64_t size = 0;
    Bytes bytes;
  };
  virtual Result<Tail> get_tail(std::string_view name, std::size_t most);
  // Every object whose name begins with `prefix` (ends with '/' or is empty), in no particular
  // order. Complete or an error: a listing that broke off is never Ok. The visitor's error ends the
  // listing and is given on.
  virtual Result<> list(std::string_view prefix,
                        const std::function<Result<>(const ObjectInfo&)>& visit) = 0;
  // Ok when it is gone, also when it was not there. Code::locked: keep_until() names it.
  virtual Result<> remove(std::string_view name) = 0;
  // Asked before anything else, and once: what a store that locks does in every call follows from
  // it.
  virtual Result<StoreLock> lock();
  // Keeps the object at least until then; never shortens. Code::not_found; Code::denied where
  // nothing can be locked.
  virtual Result<> keep_until(std::string_view name, Time until);
  // How many calls at once are worth a thread each: more than one where an answer takes a journey.
  [[nodiscard]] virtual unsigned parallel() const { return 1; }
};

// get() of each name, in their order; parallel() of them at once. All of them are in memory then.
std::vector<Result<Bytes>> get_together(ObjectStore& store, std::span<const std::string> names,
                                        std::uint64_t size_max);

// visit(item, its object) for each of `items`, in order; parallel() of them are fetched at once.
template <class Items, class Name, class Visit>
Result<> fetch_each(ObjectStore& store, const Items& items, std::uint64_t size_max,
                    const Name& name, const Visit& visit) {
  std::vector<std::string> names;
  const std::size_t together = store.parallel();
  for (std::size_t from = 0; from < items.size(); from += together) {
    const auto block = std::span(items).subspan(from, std::min(together, items.size() - from));
    names.clear();
    for (const auto& item : block) names.push_back(name(item));
    auto objects = get_together(store, names, size_max);
    for (std::size_t i = 0; i < block.size(); ++i) HF_TRY(visit(block[i], std::move(objects[i])));
  }
  return {};
}

// list() with a budget, for a store that makes objects up without end (DOS-04): Code::corrupt once
// there are more than `count_max`.
Result<> list_at_most(ObjectStore& store, std::string_view prefix, std::uint64_t count_max,
                      const std::function<Result<>(const ObjectInfo&)>& visit);

// Races several puts for one name, several times, and looks whether put-if-absent held, and whether
// what was put and removed is seen. Code::denied says what the store lacks; without it two devices
// could overwrite each other's heads. Puts below "probe/" and removes that again.
Result<> prove_put_if_absent(ObjectStore& store, Random& random);

// Code::invalid names the rule that `name` breaks.
Result<> check_object_name(std::string_view name);
// The same for list(): empty, or a name and '/'.
Result<> check_list_prefix(std::string_view prefix);

}  // namespace holdfast
