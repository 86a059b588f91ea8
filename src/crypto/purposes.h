// SPDX-License-Identifier: Apache-2.0
// Every purpose that a Transcript of this project is made for, in one place: the test ACC_10
// crosses each with every other. A new use of a key gets a new line here (and one in all_purposes).
// docs/formats/repository.md, "Labelled input".
#pragma once

#include <array>
#include <string_view>

namespace holdfast::purpose {

// Keys and sealed objects of a repository.
inline constexpr std::string_view repository = "repository";        // K_epoch -> K_repo
inline constexpr std::string_view object = "object";                // K_repo -> an object's keys
inline constexpr std::string_view nonce = "nonce";                  // K_nonce -> nonce
inline constexpr std::string_view frame = "frame";                  // AAD of a pack's frame
inline constexpr std::string_view table = "table";                  // AAD of a pack's table
inline constexpr std::string_view pack_table = "pack-table";        // signature of a pack's table
inline constexpr std::string_view box = "box";                      // AAD of a small object
inline constexpr std::string_view chunk_id = "chunk-id";            // K_id -> ChunkId
inline constexpr std::string_view tree_boundary = "tree-boundary";  // K_tree -> node boundary
inline constexpr std::string_view list_boundary = "list-boundary";  // the same in lists of chunks
inline constexpr std::string_view chunker_hash = "chunker-hash";    // K_chunker -> rolling hash
inline constexpr std::string_view chunker_prf = "chunker-prf";      // K_chunker -> cut decision
inline constexpr std::string_view head = "head";                    // signature of a snapshot head
inline constexpr std::string_view snapshot_id = "snapshot-id";      // hash of a signed head
inline constexpr std::string_view abandoned = "abandoned";          // signatures of these records
inline constexpr std::string_view dropped = "dropped";
inline constexpr std::string_view collection = "collection";
inline constexpr std::string_view collection_done = "collection-done";
inline constexpr std::string_view tags = "tags";

// The account: chain, epochs, slots.
inline constexpr std::string_view chain_entry = "chain-entry";        // signature of an entry
inline constexpr std::string_view chain_entry_id = "chain-entry-id";  // hash of a signed entry
inline constexpr std::string_view device_id = "device-id";
inline constexpr std::string_view slot_wrap = "slot-wrap";
inline constexpr std::string_view slot_ephemeral = "slot-ephemeral";
inline constexpr std::string_view epoch_commit = "epoch-commit";
inline constexpr std::string_view secret_commit = "secret-commit";
inline constexpr std::string_view old_epoch_key = "old-epoch-key";
inline constexpr std::string_view paper_symmetric = "paper-symmetric";
inline constexpr std::string_view paper_x25519 = "paper-x25519";
inline constexpr std::string_view paper_ed25519 = "paper-ed25519";
inline constexpr std::string_view paper_check = "paper-check";  // check bits of the words
inline constexpr std::string_view epoch_secrets = "epoch-secrets";
inline constexpr std::string_view home_seal = "home-seal";
inline constexpr std::string_view home_plain = "home-plain";
inline constexpr std::string_view home_header = "home-header";

inline constexpr std::array all_purposes{
    repository,
    object,
    nonce,
    frame,
    pack_table,
    box,
    table,
    chunk_id,
    tree_boundary,
    list_boundary,
    chunker_hash,
    chunker_prf,
    head,
    snapshot_id,
    chain_entry,
    chain_entry_id,
    device_id,
    slot_wrap,
    slot_ephemeral,
    epoch_commit,
    secret_commit,
    old_epoch_key,
    paper_symmetric,
    paper_x25519,
    paper_ed25519,
    paper_check,
    epoch_secrets,
    home_seal,
    home_plain,
    home_header,
    abandoned,
    dropped,
    collection,
    collection_done,
    tags,
};

}  // namespace holdfast::purpose
