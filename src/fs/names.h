// SPDX-License-Identifier: Apache-2.0
// The names of one directory, sorted by bytes, in little memory.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace holdfast {

class NameList {
 public:
  struct Name {
    std::uint64_t prefix = 0;  // the first 8 bytes as a big-endian number: sorts without the text
    std::uint32_t offset = 0;
    std::uint16_t length = 0;
    unsigned char type = 0;  // DT_*, as the directory says: a hint
  };

  void clear();
  void add(std::string_view name, unsigned char type);
  void sort();  // and drops doubles, which a directory may give while it is changed
  // Everything in an open directory but "." and "..". Errno, 0 when it was read to its end.
  int read(int directory);
  void keep_only(std::string_view name);

  [[nodiscard]] std::size_t size() const { return names_.size(); }
  [[nodiscard]] const Name& operator[](std::size_t i) const { return names_[i]; }
  [[nodiscard]] std::string_view text(const Name& name) const {  // ends with a zero byte
    return {text_.data() + name.offset, name.length};
  }
  [[nodiscard]] bool contains(std::string_view name) const;  // sorted before

 private:
  std::vector<char> text_;
  std::vector<Name> names_;
  std::vector<char> buffer_;
};

}  // namespace holdfast
