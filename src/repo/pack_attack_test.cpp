// SPDX-License-Identifier: Apache-2.0
// Packs that were damaged, moved, mixed, or written by someone who lies: with the keys (malicious
// writer) and without (malicious store). Ids: the attacks of the design.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zstd.h>

#include <algorithm>
#include <map>

#include "repo/pack_forge.h"
#include "store/memory_store.h"

namespace holdfast {
namespace {

using forge::Forger;
using forge::Lies;
using forge::TestRepository;
using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr std::size_t kHeader = 80, kFooter = 32, kOverhead = 28;

Bytes noise(std::size_t size, std::uint64_t seed) {
  Bytes out(size);
  SeededRandom(seed).fill(out);
  return out;
}

forge::Frame raw_frame(const TestRepository& r, const std::vector<Bytes>& chunks, ChunkType type) {
  forge::Frame out;
  for (const Bytes& chunk : chunks) {
    out.stored.insert(out.stored.end(), chunk.begin(), chunk.end());
    out.chunks.push_back(r.chunk(type, chunk));
  }
  out.plain = static_cast<std::uint32_t>(out.stored.size());
  return out;
}

std::vector<forge::Frame> three_frames(const TestRepository& r, std::uint64_t seed) {
  return {raw_frame(r, {noise(40, seed), noise(30, seed + 1)}, ChunkType::data),
          raw_frame(r, {noise(70, seed + 2)}, ChunkType::data),
          raw_frame(r, {noise(20, seed + 3), noise(50, seed + 4)}, ChunkType::data)};
}

Bytes honest(const TestRepository& r, std::uint64_t seed) {
  return Forger(r, ObjectType::data_pack, noise(32, seed)).pack(three_frames(r, seed), {});
}

// What a client meets who wants all of a pack.
struct Seen {
  std::optional<Error> table;  // the table could not be had
  std::vector<PackDamage> damage;
  std::vector<std::optional<Bytes>> frames;  // nothing: an error, with its text in `texts`
  std::vector<std::string> texts;
  [[nodiscard]] bool all_well() const { return !table && damage.empty(); }
};

Seen look(const TestRepository& r, const ObjectHash& name, ByteSpan bytes) {
  MemoryStore store;
  store.overwrite(pack_name(name), bytes);
  Seen out;
  FrameReader reader(r.keys);
  const auto damage = verify_pack(store, r.keys, r.devices(), name, ObjectType::data_pack, reader);
  const auto table = read_pack_table(store, r.keys, r.devices(), name, ObjectType::data_pack);
  const auto parsed = parse_pack(r.keys, r.devices(), name, ObjectType::data_pack, bytes);
  EXPECT_EQ(table.has_value(), parsed.has_value());
  EXPECT_EQ(table.has_value(), damage.has_value());
  if (!table) {
    EXPECT_EQ(table.error().what, parsed.error().what);
    EXPECT_THAT(table.error().what, HasSubstr(name.brief()));
    out.table = table.error();
    return out;
  }
  out.damage = *damage;
  for (std::size_t i = 0; i < table->frames.size(); ++i) {
    Bytes plain;
    const auto read = reader.read(store, *table, i, plain);
    out.frames.push_back(read ? std::optional(plain) : std::nullopt);
    out.texts.push_back(read ? "" : read.error().what);
    if (!read) {
      EXPECT_THAT(read.error().what,
                  AllOf(HasSubstr(name.brief()), HasSubstr(fmt::format("frame {}", i))));
    }
  }
  return out;
}

std::string refusal(const TestRepository& r, const Bytes& bytes, ObjectType type) {
  const auto parsed = parse_pack(r.keys, r.devices(), Forger::name(bytes), type, bytes);
  return parsed ? "accepted" : parsed.error().what;
}
std::string refusal(const TestRepository& r, const Bytes& bytes) {
  return refusal(r, bytes, ObjectType::data_pack);
}

TEST(PackAttack, every_flipped_bit_is_found_and_never_restored) {
  const TestRepository r(1);
  const Bytes pack = honest(r, 1);
  const std::vector<forge::Frame> frames = three_frames(r, 1);
  const ObjectHash name = Forger::name(pack);
  ASSERT_TRUE(look(r, name, pack).all_well());
  for (std::size_t i = 0; i < pack.size(); ++i) {
    Bytes bad = pack;
    bad[i] ^= static_cast<std::byte>(1U << (i % 8));
    const Seen seen = look(r, name, bad);
    EXPECT_FALSE(seen.all_well()) << "byte " << i;
    for (std::size_t f = 0; f < seen.frames.size(); ++f)
      EXPECT_EQ(seen.frames[f].value_or(frames[f].stored), frames[f].stored);
  }
}

TEST(PackAttack, every_truncation_and_extension_is_found) {
  const TestRepository r(1);
  const Bytes pack = honest(r, 1);
  const ObjectHash name = Forger::name(pack);
  for (std::size_t size = 0; size < pack.size(); ++size)
    EXPECT_TRUE(look(r, name, ByteSpan(pack).first(size)).table) << size;
  for (const std::size_t more : {1UL, 8UL, 32UL, 1000UL}) {
    Bytes longer = pack;
    longer.resize(pack.size() + more);
    EXPECT_TRUE(look(r, name, longer).table) << more;
  }
}

TEST(PackAttack, damage_names_the_chunks_that_are_lost_and_leaves_the_others) {
  const TestRepository r(1);
  Bytes pack = honest(r, 1);
  const std::vector<forge::Frame> frames = three_frames(r, 1);
  const ObjectHash name = Forger::name(pack);
  const std::size_t second = kHeader + kOverhead + 70 + 20;
  pack[second] ^= std::byte{1};
  const Seen seen = look(r, name, pack);
  ASSERT_EQ(seen.damage.size(), 2U);  // the frame, and that the name does not hold
  EXPECT_THAT(seen.damage[0].what, HasSubstr("frame 1"));
  EXPECT_THAT(seen.damage[0].chunks, ::testing::ElementsAre(frames[1].chunks[0].id));
  EXPECT_THAT(seen.damage[1].what, HasSubstr("not those of its name"));
  EXPECT_TRUE(seen.frames[0] && !seen.frames[1] && seen.frames[2]);
}

TEST(PackAttack, ENG_01_chunks_of_the_wrong_type_are_refused) {
  const TestRepository r(2);
  const Bytes node_in_data = Forger(r, ObjectType::data_pack, noise(32, 1))
                                 .pack({raw_frame(r, {noise(50, 1)}, ChunkType::leaf)}, {});
  EXPECT_THAT(refusal(r, node_in_data), HasSubstr("wrong object type"));
  const Bytes data_in_tree = Forger(r, ObjectType::tree_pack, noise(32, 1))
                                 .pack({raw_frame(r, {noise(50, 1)}, ChunkType::data)}, {});
  EXPECT_THAT(refusal(r, data_in_tree, ObjectType::tree_pack), HasSubstr("wrong object type"));
  // A data pack asked for as a tree pack, and one whose header was changed to say so.
  Bytes pack = honest(r, 1);
  EXPECT_THAT(refusal(r, pack, ObjectType::tree_pack), HasSubstr("wrong object type"));
  pack[9] = std::byte{2};
  EXPECT_THAT(refusal(r, pack, ObjectType::tree_pack), HasSubstr("key commitment"));
}

TEST(PackAttack, ENG_01_bytes_of_a_file_never_carry_the_id_of_a_node) {
  const TestRepository r(2);
  const Bytes bytes = noise(500, 1);  // what an attacker wrote into a file: a well-formed node
  ASSERT_NE(r.chunk(ChunkType::data, bytes).id, r.chunk(ChunkType::leaf, bytes).id);
  // A tree pack that claims the node, made with keys: the id does not hold.
  forge::Frame frame = raw_frame(r, {bytes}, ChunkType::data);
  frame.chunks[0].type = ChunkType::leaf;
  const Bytes pack = Forger(r, ObjectType::tree_pack, noise(32, 1)).pack({frame}, {});
  const auto table =
      parse_pack(r.keys, r.devices(), Forger::name(pack), ObjectType::tree_pack, pack);
  ASSERT_TRUE(table) << table.error().what;
  FrameReader reader(r.keys);
  Bytes out;
  const auto opened =
      reader.open(*table, 0, ByteSpan(pack).subspan(table->frames[0].offset, 500 + kOverhead), out);
  ASSERT_FALSE(opened);
  EXPECT_THAT(opened.error().what, HasSubstr(frame.chunks[0].id.hex()));
}

// Exchanges `size` bytes at two places, which may lie in two packs.
void exchange(Bytes& a, std::size_t a_at, Bytes& b, std::size_t b_at, std::size_t size) {
  for (std::size_t i = 0; i < size; ++i) std::swap(a[a_at + i], b[b_at + i]);
}

TEST(PackAttack, ENG_05_ciphertexts_of_equal_size_cannot_be_exchanged) {
  const TestRepository r(3);
  const std::vector<forge::Frame> frames = three_frames(r, 1);
  Bytes inside = honest(r, 1);
  const ObjectHash name = Forger::name(inside);
  const std::size_t frame = kOverhead + 70;  // all three have this size
  exchange(inside, kHeader, inside, kHeader + frame, frame);
  const Seen seen = look(r, name, inside);
  ASSERT_EQ(seen.frames.size(), 3U);
  EXPECT_FALSE(seen.frames[0] || seen.frames[1]);
  EXPECT_THAT(seen.texts[0], HasSubstr(frames[0].chunks[0].id.brief()));
  EXPECT_THAT(seen.texts[1], HasSubstr(frames[1].chunks[0].id.brief()));
  EXPECT_TRUE(seen.frames[2]);

  Bytes one = honest(r, 1), two = honest(r, 50);
  exchange(one, kHeader, two, kHeader, frame);
  EXPECT_FALSE(look(r, Forger::name(honest(r, 1)), one).frames.at(0));
  EXPECT_FALSE(look(r, Forger::name(honest(r, 50)), two).frames.at(0));
}

// The bodies of two chunks of equal size inside one frame: only with keys, and then the ids tell.
TEST(PackAttack, ENG_05_chunks_exchanged_by_a_writer_with_keys) {
  const TestRepository r(3);
  forge::Frame frame = raw_frame(r, {noise(40, 1), noise(40, 2)}, ChunkType::data);
  std::swap(frame.chunks[0].id, frame.chunks[1].id);
  const Bytes pack = Forger(r, ObjectType::data_pack, noise(32, 1)).pack({frame}, {});
  const Seen seen = look(r, Forger::name(pack), pack);
  ASSERT_EQ(seen.frames.size(), 1U);
  EXPECT_THAT(seen.texts[0], HasSubstr(frame.chunks[0].id.hex()));
}

// A whole pack under the name of another one of the same repository: its table holds, its name not.
TEST(PackAttack, ENG_05_a_pack_under_the_name_of_another) {
  const TestRepository r(3);
  const Seen seen = look(r, Forger::name(honest(r, 50)), honest(r, 1));
  ASSERT_EQ(seen.damage.size(), 1U);
  EXPECT_THAT(seen.damage[0].what, HasSubstr("not those of its name"));
}

TEST(PackAttack, ENG_06_pack_of_another_account_or_repository_is_refused) {
  const TestRepository victim(4), other(5);
  EXPECT_THAT(refusal(victim, honest(other, 1)), HasSubstr("key commitment does not match"));
  // The same keys, and only one part of the place differs: as after a copied key.
  for (const bool account : {true, false}) {
    TestRepository moved(4);
    (account ? moved.keys.place.account.bytes[0] : moved.keys.place.repository.bytes[0]) ^=
        std::byte{1};
    EXPECT_THAT(refusal(victim, honest(moved, 1)), HasSubstr("key commitment does not match"));
  }
  TestRepository later(4);
  later.keys.epoch_keys.emplace(2, Secret(32));
  later.keys.newest = 2;
  const auto parsed =
      parse_pack(victim.keys, victim.devices(), {}, ObjectType::data_pack, honest(later, 1));
  ASSERT_FALSE(parsed);
  EXPECT_EQ(parsed.error().code, Code::denied);
  EXPECT_THAT(parsed.error().what, HasSubstr("epoch 2"));
}

// Sets the footer's numbers and brings the size to one that packs have; what a store can do.
Bytes fixed_up(Bytes frames, const Bytes& table, Bytes footer, std::uint32_t count) {
  store_le(footer.data() + 16, count);
  const std::size_t least = frames.size() + table.size() + footer.size();
  frames.resize(frames.size() + static_cast<std::size_t>(padme(least)) - least);
  frames.insert(frames.end(), table.begin(), table.end());
  frames.insert(frames.end(), footer.begin(), footer.end());
  return frames;
}

TEST(PackAttack, ENG_07_frames_removed_permuted_or_cut_with_the_footer_fixed_up) {
  const TestRepository r(6);
  const Bytes pack = honest(r, 1);
  const Bytes footer(pack.end() - kFooter, pack.end());
  const auto table_size = load_le<std::uint32_t>(footer.data() + 12);
  const Bytes table(pack.end() - static_cast<std::ptrdiff_t>(kFooter + table_size),
                    pack.end() - kFooter);
  const auto frame = static_cast<std::ptrdiff_t>(kOverhead + 70);
  const auto frames_end = pack.end() - static_cast<std::ptrdiff_t>(kFooter + table_size);
  for (const std::uint32_t count : {4U, 3U, 2U, 1U, 0U, 5U}) {
    for (std::ptrdiff_t removed = 0; removed < 4; ++removed) {
      Bytes bad(pack.begin(), pack.begin() + kHeader);
      for (std::ptrdiff_t i = 0; i < 3; ++i) {
        const auto at = pack.begin() + kHeader + i * frame;
        if (i != removed) bad.insert(bad.end(), at, at + frame);
      }
      bad.insert(bad.end(), pack.begin() + kHeader + 3 * frame, frames_end);
      if (removed == 3 && count == 4) continue;  // the honest pack
      EXPECT_THAT(refusal(r, fixed_up(bad, table, footer, count)),
                  AnyOf(HasSubstr("table"), HasSubstr("frames")))
          << count << " without " << removed;
    }
    // Cut behind k frames.
    for (std::ptrdiff_t kept = 0; kept < 3; ++kept) {
      const Bytes bad(pack.begin(), pack.begin() + kHeader + kept * frame);
      EXPECT_NE(refusal(r, fixed_up(bad, table, footer, count)), "accepted");
    }
  }
}

TEST(PackAttack, ENG_07_truncated_pack_is_refused) {
  const TestRepository r(6);
  const Bytes pack = honest(r, 1);
  for (std::size_t at = kHeader; at < pack.size(); at += kOverhead + 70)
    EXPECT_THAT(refusal(r, Bytes(pack.begin(), pack.begin() + static_cast<std::ptrdiff_t>(at))),
                AnyOf(HasSubstr("cut off"), HasSubstr("footer")));
}

// ---- ENG-09: what a cloned or rolled back machine repeats

using NonceUse = std::map<std::string, Bytes>;  // salt (so: key) and nonce -> sealed bytes

void collect(NonceUse& uses, ByteSpan pack, const PackTable& table) {
  const std::string salt = to_hex(table.salt);
  const auto use = [&](ByteSpan nonce, ByteSpan sealed) {
    const auto [at, fresh] = uses.try_emplace(salt + to_hex(nonce), sealed.begin(), sealed.end());
    EXPECT_TRUE(fresh || std::ranges::equal(at->second, sealed))
        << "one key and nonce for two plaintexts";
  };
  std::size_t end = kHeader;
  for (const PackFrame& f : table.frames) {
    use(pack.subspan(f.offset, 12), pack.subspan(f.offset + 12, f.stored + 16));
    end = f.offset + f.stored + kOverhead;
  }
  const ByteSpan footer = pack.last(kFooter);
  const auto table_size = load_le<std::uint32_t>(footer.data() + 12);
  const std::size_t table_at = pack.size() - kFooter - table_size;
  use(pack.subspan(end, 12), pack.subspan(end + 12, table_at - end - 12));
  use(footer.first(12), pack.subspan(table_at, table_size));
}

TEST(PackAttack, ENG_09_cloned_random_state_repeats_a_nonce_only_with_identical_bytes) {
  const TestRepository r(7);
  NonceUse uses;
  std::size_t sealed = 0;
  for (std::uint64_t run = 0; run < 6; ++run) {
    SeededRandom random(8);  // the same state each time: the same salts, so the same keys
    PackBuilder builder(r.keys, ObjectType::data_pack, r.device, r.signer, random);
    for (std::uint64_t pack = 0; pack < 3; ++pack) {
      for (std::uint64_t i = 0; i < 4; ++i) {
        // The runs begin alike and part at a frame; sizes are the same, or differ by a little.
        const bool same = pack == 0 && i < run % 4;
        const Bytes plain = noise(100 + run % 2, same ? i : 1000 * run + 10 * pack + i);
        const forge::Frame f = raw_frame(r, {plain}, ChunkType::data);
        builder.add_frame(f.stored, f.plain, Method::raw, f.chunks);
        const std::size_t size = plain.size() / 2;  // "compressed": any shorter bytes
        builder.add_frame(ByteSpan(plain).first(size), f.plain, Method::zstd, f.chunks);
        sealed += 2;
      }
      const auto done = builder.finish(true);
      sealed += 2;
      collect(uses, done.bytes, done.table);
    }
  }
  EXPECT_GT(sealed, uses.size());  // nonces did repeat: with identical bytes
}

// ---- lies told with keys

using TableLie = std::function<void(forge::Table&)>;

std::string lied(const TestRepository& r, const TableLie& early, const TableLie& late) {
  Lies lies;
  lies.early = early;
  lies.late = late;
  return refusal(r, Forger(r, ObjectType::data_pack, noise(32, 1)).pack(three_frames(r, 1), lies));
}

TEST(PackAttack, ENG_13_lies_of_a_table_are_clean_errors) {
  const TestRepository r(9);
  ASSERT_EQ(lied(r, {}, {}), "accepted");
  constexpr std::uint32_t top = 0xFFFFFFFFU;
  struct Row {
    TableLie early, late;
    std::string_view want;
  };
  const Row rows[] = {
      {{}, [](auto& t) { t.frames[0].stored = top; }, "frame 0: stored length"},
      {{}, [](auto& t) { t.frames[0].stored = t.frames[0].plain = top; }, "frame 0: plain length"},
      {{}, [](auto& t) { t.frames[1].plain = 0; }, "frame 1: plain length"},
      {{}, [](auto& t) { t.frames[1].stored = 0; }, "frame 1: stored length"},
      {{}, [](auto& t) { t.frames[1].stored -= 1; }, "frame 1: stored length"},
      {{}, [](auto& t) { t.frames[1].method = 1; }, "accepted"},  // found when it is opened
      {{}, [](auto& t) { t.frames[1].method = 2; }, "frame 1: method 2"},
      {{}, [](auto& t) { t.frames[1].method = 3; }, "frame 1: method 3"},
      {{}, [](auto& t) { t.frames[3].method = 0; }, "not a padding frame"},
      {{}, [](auto& t) { t.frames[3].chunks = 1; }, "not a padding frame"},
      {{}, [](auto& t) { t.frames[3].stored += 1; }, "not a padding frame"},
      {{}, [](auto& t) { t.frames[3].stored = t.frames[3].plain = top; }, "the table begins"},
      {{}, [](auto& t) { t.frames[0].stored = t.frames[0].plain = 69; }, "the table begins"},
      {{},
       [](auto& t) {  // overlap: the first frame reaches over the second
         t.frames[0].stored = t.frames[0].plain = 170;
         t.frames[1].stored = t.frames[1].plain = 1;
       },
       "the table begins"},
      {{}, [](auto& t) { t.frames[0].stored = t.frames[0].plain = 1U << 20; }, "into the table"},
      {{}, [](auto& t) { t.frames[0].chunks = top; }, "frame 0: chunk count"},
      {{}, [](auto& t) { t.frames[0].chunks = 0; }, "frame 0: chunk count"},
      {{}, [](auto& t) { t.frames[0].chunks = 1; }, "frames have 4 chunks"},
      {{}, [](auto& t) { t.frames[2].chunks = 3; }, "frame 2: chunk count"},
      {{}, [](auto& t) { t.frame_count = 3; }, "table: 3 frames, the footer says 4"},
      {{}, [](auto& t) { t.frame_count = top; }, "the footer says 4"},
      {{}, [](auto& t) { t.chunk_count = 4; }, "4 frames and 4 chunks take"},
      {{}, [](auto& t) { t.chunk_count = top; }, "chunks take"},
      {[](auto& t) { t.chunks.push_back(t.chunks[0]); }, {}, "5 chunks take"},
      {[](auto& t) { t.chunks.push_back(t.chunks[0]), ++t.chunk_count; }, {}, "it lists 6"},
      {{}, [](auto& t) { t.chunks[0].length = top; }, "length 4294967295 does not fit"},
      {{}, [](auto& t) { t.chunks[0].length = 0; }, "length 0 does not fit"},
      {{}, [](auto& t) { t.chunks[0].length -= 1; }, "have 69 bytes together"},
      {{}, [](auto& t) { t.chunks[0].length = t.chunks[1].length = 1U << 31; }, "does not fit"},
      {{}, [](auto& t) { t.chunks[0].type = static_cast<ChunkType>(0); }, "wrong object type"},
      {{}, [](auto& t) { t.chunks[0].type = static_cast<ChunkType>(5); }, "wrong object type"},
      {{}, [](auto& t) { t.device.bytes[0] ^= std::byte{1}; }, "does not know"},
  };
  for (const Row& row : rows) EXPECT_THAT(lied(r, row.early, row.late), HasSubstr(row.want));
}

// Each number of the table, set to what overflows.
TEST(PackAttack, DOS_03_every_length_and_count_set_to_what_overflows) {
  const TestRepository r(10);
  std::vector<std::size_t> fields{16, 20};
  for (std::size_t frame = 0; frame < 4; ++frame)
    for (const std::size_t at : {0UL, 4UL, 9UL}) fields.push_back(24 + frame * 13 + at);
  for (std::size_t chunk = 0; chunk < 5; ++chunk) fields.push_back(24 + 4 * 13 + chunk * 37 + 32);
  const std::uint32_t values[] = {0,           0x7FFFFFFFU, 0x80000000U, 0x80000001U,
                                  0xFFFFFFFFU, 0xFFFFFFFEU, 0xFFFFFFE4U, 1U << 20};
  for (const std::size_t field : fields) {
    for (const std::uint32_t value : values) {
      Lies lies;
      bool same = false;
      lies.table = [&](Bytes& table) {
        same = load_le<std::uint32_t>(table.data() + field) == value;
        store_le(table.data() + field, value);
      };
      const Bytes pack =
          Forger(r, ObjectType::data_pack, noise(32, 1)).pack(three_frames(r, 1), lies);
      EXPECT_EQ(refusal(r, pack) == "accepted", same) << field << " = " << value;
    }
  }
  for (const std::size_t field : {12UL, 16UL, 20UL}) {
    for (const std::uint32_t value : values) {
      Lies lies;
      lies.footer = [&](Bytes& footer) { store_le(footer.data() + field, value); };
      const Bytes pack =
          Forger(r, ObjectType::data_pack, noise(32, 1)).pack(three_frames(r, 1), lies);
      const bool same = field == 20 && value == 0;
      EXPECT_THAT(refusal(r, pack), HasSubstr(same ? "accepted" : "footer"))
          << field << " = " << value;
    }
  }
}

TEST(PackAttack, every_flipped_byte_of_a_signed_table_is_an_error_or_a_changed_id) {
  const TestRepository r(10);
  for (std::size_t at = 0; at < 24 + 4 * 13 + 5 * 37; ++at) {
    Lies lies;
    lies.table = [at](Bytes& table) { table[at] ^= std::byte{0x55}; };
    const Bytes pack =
        Forger(r, ObjectType::data_pack, noise(32, 1)).pack(three_frames(r, 1), lies);
    EXPECT_FALSE(look(r, Forger::name(pack), pack).all_well()) << at;
  }
}

TEST(PackAttack, signature_of_another_device_is_refused) {
  const TestRepository r(11);
  Lies lies;
  lies.signer = &r.stranger;
  const auto forged = [&] {
    return Forger(r, ObjectType::data_pack, noise(32, 1)).pack(three_frames(r, 1), lies);
  };
  EXPECT_THAT(refusal(r, forged()),
              AllOf(HasSubstr("signature is not that of device"), HasSubstr(r.device.hex())));
  lies.early = [](forge::Table& t) { t.device = DeviceId{}; };
  EXPECT_THAT(refusal(r, forged()), AllOf(HasSubstr("does not know"), HasSubstr(DeviceId{}.hex())));
}

TEST(PackAttack, padding_that_is_not_zeros_or_not_padme_is_found) {
  const TestRepository r(12);
  Lies lies;
  lies.padding_byte = 1;
  Forger forger(r, ObjectType::data_pack, noise(32, 1));
  const Bytes covert = forger.pack(three_frames(r, 1), lies);
  const Seen seen = look(r, Forger::name(covert), covert);
  ASSERT_EQ(seen.damage.size(), 1U);
  EXPECT_THAT(seen.damage[0].what, HasSubstr("padding is not zeros"));
  Lies size;
  size.pad_to = honest(r, 1).size() + 1;
  EXPECT_THAT(refusal(r, forger.pack(three_frames(r, 1), size)),
              HasSubstr("no size that a pack has"));
}

// ---- DOS-01: frames that decompress to something else than they say

class ZstdFrame {
 public:
  // `descriptor` and what follows it, as RFC 8878 has them.
  ZstdFrame(std::uint8_t descriptor, ByteSpan rest) {
    Writer w(bytes_);
    w.u32(0xFD2FB528U);
    w.u8(descriptor);
    w.raw(rest);
  }
  ZstdFrame& run(std::uint32_t size, bool last) {
    const std::uint32_t header = (size << 3) | (1U << 1) | (last ? 1U : 0U);
    Writer w(bytes_);
    w.u16(static_cast<std::uint16_t>(header));
    w.u8(static_cast<std::uint8_t>(header >> 16));
    w.u8(0);
    return *this;
  }
  ZstdFrame& more(ByteSpan bytes) {
    Writer(bytes_).raw(bytes);
    return *this;
  }
  [[nodiscard]] const Bytes& bytes() const { return bytes_; }

 private:
  Bytes bytes_;
};

Bytes one(std::uint8_t byte) { return {static_cast<std::byte>(byte)}; }
Bytes le32(std::uint32_t value) {
  Bytes out;
  Writer(out).u32(value);
  return out;
}
ZstdFrame windowed(std::uint8_t window) { return ZstdFrame(0, one(window)); }
ZstdFrame sized(std::uint32_t size) { return ZstdFrame(0xA0, le32(size)); }  // single segment

std::string opened(const TestRepository& r, const Bytes& stored, std::uint32_t plain) {
  const PackChunk chunk = r.chunk(ChunkType::data, Bytes(plain));
  const forge::Frame frame{stored, plain, Method::zstd, {chunk}};
  const Bytes pack = Forger(r, ObjectType::data_pack, noise(32, 1)).pack({frame}, {});
  const auto table =
      parse_pack(r.keys, r.devices(), Forger::name(pack), ObjectType::data_pack, pack);
  if (!table) return table.error().what;
  FrameReader reader(r.keys);
  Bytes out;
  const auto done =
      reader.open(*table, 0, ByteSpan(pack).subspan(80, stored.size() + kOverhead), out);
  EXPECT_LE(out.capacity(), plain);
  if (done) return "accepted";
  EXPECT_THAT(done.error().what, HasSubstr(chunk.id.brief()));
  return done.error().what;
}

TEST(PackAttack, DOS_01_decompression_bombs_stop_at_the_length_of_the_table) {
  const TestRepository r(13);
  constexpr std::uint32_t block = 128U << 10;
  EXPECT_EQ(opened(r, windowed(0x50).run(block, true).bytes(), block), "accepted");
  EXPECT_EQ(opened(r, sized(block).run(block, true).bytes(), block), "accepted");

  ZstdFrame bomb = windowed(0x50);  // 16 KiB that expand to 512 MiB
  for (int i = 0; i < 4095; ++i) bomb.run(block, false);
  bomb.run(block, true);
  EXPECT_THAT(opened(r, bomb.bytes(), 1U << 20), HasSubstr("does not decompress to 1048576 bytes"));
  ZstdFrame liar = sized(1U << 20);  // declares what the table says, and goes on
  for (int i = 0; i < 4095; ++i) liar.run(block, false);
  liar.run(block, true);
  EXPECT_THAT(opened(r, liar.bytes(), 1U << 20), HasSubstr("does not decompress"));
  EXPECT_THAT(opened(r, sized(0xFFFFFFFFU).run(block, true).bytes(), block),
              HasSubstr("would decompress to 4294967295 bytes"));
  EXPECT_THAT(opened(r, sized(block - 1).run(block, true).bytes(), block),
              HasSubstr("would decompress to 131071 bytes"));
  EXPECT_THAT(opened(r, windowed(0x50).run(100, true).bytes(), block),
              HasSubstr("decompresses to 100"));
  EXPECT_THAT(opened(r, windowed(0x50).run(block, false).bytes(), block), HasSubstr("cut off"));
}

TEST(PackAttack, DOS_01_huge_windows_dictionaries_and_trailing_bytes_are_refused) {
  const TestRepository r(13);
  constexpr std::uint32_t block = 128U << 10;
  for (const int window : {0x51, 0x58, 0x78, 0xA8, 0xF8, 0xFF})
    EXPECT_THAT(
        opened(r, windowed(static_cast<std::uint8_t>(window)).run(block, true).bytes(), block),
        AnyOf(HasSubstr("window"), HasSubstr("no zstd frame")))  // zstd itself knows no 2^41
        << window;
  Bytes with_dictionary = one(0x50);
  with_dictionary.push_back(std::byte{7});
  EXPECT_THAT(opened(r, ZstdFrame(1, with_dictionary).run(block, true).bytes(), block),
              HasSubstr("dictionary"));
  const Bytes whole = windowed(0x50).run(block, true).bytes();
  Bytes skippable = le32(0x184D2A50U);
  skippable.insert(skippable.end(), 4, std::byte{0});
  for (const Bytes& more : {one(0), whole, skippable})
    EXPECT_THAT(opened(r, windowed(0x50).run(block, true).more(more).bytes(), block),
                HasSubstr("more follows"));
  Bytes behind = skippable;
  behind.insert(behind.end(), whole.begin(), whole.end());
  EXPECT_NE(opened(r, behind, block), "accepted");
  EXPECT_THAT(opened(r, noise(500, 1), block), HasSubstr("no zstd frame"));
  for (std::size_t size = 1; size < whole.size(); ++size)
    EXPECT_NE(
        opened(r, Bytes(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)), block),
        "accepted");
}

TEST(PackAttack, a_store_that_fails_is_not_called_damage) {
  const TestRepository r(14);
  MemoryStore store;
  const auto missing =
      read_pack_table(store, r.keys, r.devices(), ObjectHash{}, ObjectType::data_pack);
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, Code::not_found);
}

}  // namespace
}  // namespace holdfast
