// The bytes of an input as numbers; behind its end all are 0. Arrays are as NumPy's: an empty one
// has an address too.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

class Bytes {
 public:
  Bytes(const uint8_t* data, size_t size) : data_(data), end_(data + size) {}

  // In least…most.
  int64_t number(int64_t least, int64_t most) {
    const uint64_t value = uint64_t(byte()) << 8 | byte();
    return least + int64_t(value % uint64_t(most - least + 1));
  }

  template <class T>
  std::vector<T> array(size_t size, int64_t least, int64_t most) {
    auto numbers = zeros<T>(size);
    for (T& x : numbers) x = T(number(least, most));
    return numbers;
  }

  // Numbers of any size, some infinite or none; `calm` ones are in -8…8.
  template <class T>
  std::vector<T> reals(size_t size, bool calm) {
    auto numbers = zeros<T>(size);
    for (T& x : numbers) {
      const uint32_t bits = uint32_t(number(0, UINT16_MAX)) << 16;  // a number of bfloat16
      float value;
      std::memcpy(&value, &bits, sizeof value);
      x = T(calm ? float(int32_t(bits) / 16384) / 16384 : value);
    }
    return numbers;
  }

  template <class T>
  static std::vector<T> zeros(size_t size) {
    std::vector<T> numbers;
    numbers.reserve(size ? size : 1);
    numbers.resize(size);
    return numbers;
  }

 private:
  uint8_t byte() { return data_ < end_ ? *data_++ : 0; }

  const uint8_t *data_, *end_;
};
