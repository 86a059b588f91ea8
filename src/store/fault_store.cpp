// SPDX-License-Identifier: Apache-2.0
#include "store/fault_store.h"

#include <fmt/format.h>

namespace holdfast {
namespace {

std::unexpected<Error> lost(bool crash, std::string_view doing, std::string_view name) {
  return fail(Code::unavailable,
              fmt::format("{} {}: {}", doing, name, crash ? "crashed" : "injected fault"));
}

void flip_one_bit(MutableByteSpan bytes, std::uint64_t draw) {
  if (bytes.empty()) return;
  bytes[(draw >> 3) % bytes.size()] ^= static_cast<std::byte>(1U << (draw & 7));
}

}  // namespace

// splitmix64 (Steele, Lea, Flood 2014): the engine and its use are the same on every library.
std::uint64_t FaultStore::next() {
  std::uint64_t z = plan_.seed + ++draws_ * 0x9E3779B97F4A7C15U;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
  return z ^ (z >> 31);
}

void FaultStore::decide_crash(Fate& fate, std::uint64_t call) {
  if (crashed_) {
    fate.crash = fate.before = true;
  } else if (call == plan_.crash_at_call) {
    crashed_ = fate.crash = true;
    fate.before = !plan_.crash_after_effect;
    fate.after = plan_.crash_after_effect;
  }
}

FaultStore::Fate FaultStore::decide(Kind kind) {
  const std::lock_guard lock(mutex_);
  const std::uint64_t call = calls_++;
  Fate fate;
  fate.before = one_of_1024(plan_.fail_before);
  fate.after = one_of_1024(plan_.fail_after);
  fate.short_read = one_of_1024(plan_.short_reads);
  fate.draw = next();
  if (kind == Kind::put) fate.full = puts_++ >= plan_.full_from_put;
  if (kind == Kind::get) fate.flip = gets_++ == plan_.corrupt_get;
  decide_crash(fate, call);
  return fate;
}

Result<> FaultStore::put(std::string_view name, ByteSpan bytes) {
  const Fate fate = decide(Kind::put);
  if (fate.before) return lost(fate.crash, "put", name);
  if (fate.full) return fail(Code::full, fmt::format("put {}: injected: no space left", name));
  auto done = inner_.put(name, bytes);
  if (fate.after) return lost(fate.crash, "put", name);
  return done;
}

Result<Bytes> FaultStore::get(std::string_view name, std::uint64_t size_max) {
  const Fate fate = decide(Kind::get);
  if (fate.before) return lost(fate.crash, "get", name);
  auto bytes = inner_.get(name, size_max);
  if (fate.after) return lost(fate.crash, "get", name);
  if (!bytes) return bytes;
  if (fate.short_read && !bytes->empty()) bytes->resize(fate.draw % bytes->size());
  if (fate.flip) flip_one_bit(*bytes, fate.draw);
  return bytes;
}

Result<> FaultStore::get_range(std::string_view name, std::uint64_t offset, MutableByteSpan out) {
  const Fate fate = decide(Kind::get);
  if (fate.before) return lost(fate.crash, "get", name);
  if (fate.short_read && !out.empty()) {  // part of it arrives, and the call says so
    HF_TRY(inner_.get_range(name, offset, out.first(fate.draw % out.size())));
    return fail(Code::unavailable, fmt::format("get {}: injected: the answer broke off", name));
  }
  HF_TRY(inner_.get_range(name, offset, out));
  if (fate.after) return lost(fate.crash, "get", name);
  if (fate.flip) flip_one_bit(out, fate.draw);
  return {};
}

Result<std::uint64_t> FaultStore::size(std::string_view name) {
  const Fate fate = decide(Kind::other);
  if (fate.before || fate.after) return lost(fate.crash, "size", name);
  return inner_.size(name);
}

Result<> FaultStore::list(std::string_view prefix,
                          const std::function<Result<>(const ObjectInfo&)>& visit) {
  const Fate fate = decide(Kind::other);
  if (fate.before) return lost(fate.crash, "list", prefix);
  // "After" is in the middle here: the visitor saw some of it.
  std::uint64_t left = fate.after ? fate.draw % 8 : kNever;
  HF_TRY(inner_.list(prefix, [&](const ObjectInfo& info) -> Result<> {
    if (left-- == 0) return lost(fate.crash, "list", prefix);
    return visit(info);
  }));
  if (fate.after) return lost(fate.crash, "list", prefix);
  return {};
}

Result<> FaultStore::remove(std::string_view name) {
  const Fate fate = decide(Kind::other);
  if (fate.before) return lost(fate.crash, "remove", name);
  auto done = inner_.remove(name);
  if (fate.after) return lost(fate.crash, "remove", name);
  return done;
}

Result<> FaultStore::keep_until(std::string_view name, Time until) {
  const Fate fate = decide(Kind::other);
  if (fate.before) return lost(fate.crash, "keep", name);
  auto done = inner_.keep_until(name, until);
  if (fate.after) return lost(fate.crash, "keep", name);
  return done;
}

std::uint64_t FaultStore::calls() const {
  const std::lock_guard lock(mutex_);
  return calls_;
}
std::uint64_t FaultStore::puts() const {
  const std::lock_guard lock(mutex_);
  return puts_;
}
std::uint64_t FaultStore::gets() const {
  const std::lock_guard lock(mutex_);
  return gets_;
}
bool FaultStore::crashed() const {
  const std::lock_guard lock(mutex_);
  return crashed_;
}

}  // namespace holdfast
