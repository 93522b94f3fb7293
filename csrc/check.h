// Argument checks. A failed check throws a std::runtime_error, which is a RuntimeError in Python:
//
//   <op>: <argument> must <rule>, got <value>
//
// The reference ops raise the same words. STD_TORCH_CHECK would put the C++ function, file and line
// before them.
#pragma once
#include <torch/csrc/stable/device.h>

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <sstream>
#include <stdexcept>
#include <string>

#include "tensor.h"

namespace aligndraw {

template <class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  std::ostringstream message;
  (message << ... << parts);
  throw std::runtime_error(message.str());
}

using Sizes = torch::headeronly::IntHeaderOnlyArrayRef;

inline std::string shape_text(Sizes sizes) {
  std::string text;
  for (const int64_t size : sizes) text += (text.empty() ? "" : ", ") + std::to_string(size);
  return "[" + text + "]";
}
inline std::string shape_text(const Tensor& tensor) { return shape_text(tensor.sizes()); }

inline std::string dtype_text(ScalarType type) {
  switch (type) {
    case ScalarType::Float:
      return "float32";
    case ScalarType::Double:
      return "float64";
    case ScalarType::BFloat16:
      return "bfloat16";
    case ScalarType::Half:
      return "float16";
    case ScalarType::Bool:
      return "bool";
    case ScalarType::Byte:
      return "uint8";
    case ScalarType::Char:
      return "int8";
    case ScalarType::Short:
      return "int16";
    case ScalarType::Int:
      return "int32";
    case ScalarType::Long:
      return "int64";
    case ScalarType::ComplexFloat:
      return "complex64";
    case ScalarType::ComplexDouble:
      return "complex128";
    default:
      return torch::headeronly::toString(type);
  }
}

inline std::string device_text(const Tensor& tensor) {
  if (tensor.is_cpu()) return "cpu";
  return (tensor.is_cuda() ? "cuda:" : "device:") + std::to_string(tensor.get_device_index());
}

constexpr int64_t any = -1;

// With each size at most 2^31 - 1 and their product at most 2^40, every product of sizes that an op
// forms for its workspace fits 64 bits. A 0 counts as 1: ops also multiply the other sizes of an
// empty array.
constexpr int64_t largest_size = INT32_MAX, largest_product = int64_t(1) << 40;

inline void check_sizes(const char* op, const char* name, Sizes sizes) {
  int64_t product = 1;
  for (const int64_t size : sizes) {
    if (size > largest_size || size > largest_product / product)
      fail(op, ": ", name, " must have sizes below 2**31 with a product of at most 2**40, got ",
           shape_text(sizes));
    product *= std::max<int64_t>(1, size);
  }
}

// `letters` is the documented shape, "[B, C, H, W]"; each of `sizes` is the required size, or
// `any`.
inline void check_shape(const char* op, const char* name, const Tensor& tensor,
                        const std::string& letters, std::initializer_list<int64_t> sizes) {
  const auto fits = [](int64_t wanted, int64_t size) { return wanted == any || wanted == size; };
  const auto got = tensor.sizes();
  if (std::equal(sizes.begin(), sizes.end(), got.begin(), got.end(), fits))
    return check_sizes(op, name, got);
  std::istringstream names(letters.substr(1, letters.size() - 2));
  std::string wanted, letter;
  for (const int64_t size : sizes) {
    std::getline(names >> std::ws, letter, ',');
    wanted += (wanted.empty() ? "" : ", ") + (size == any ? letter : std::to_string(size));
  }
  wanted = "[" + wanted + "]";
  fail(op, ": ", name, " must have shape ", wanted == letters ? letters : letters + " = " + wanted,
       ", got ", shape_text(tensor));
}

struct Argument {
  const char* name;
  const Tensor& tensor;
};

inline void check_device(const char* op, const Argument& argument, const Argument& like) {
  if (argument.tensor.device() != like.tensor.device())
    fail(op, ": ", argument.name, " must be on ", device_text(like.tensor), " like ", like.name,
         ", got ", device_text(argument.tensor));
}

inline void check_dtype(const char* op, const Argument& argument, const Argument& like) {
  const ScalarType type = argument.tensor.scalar_type(), wanted = like.tensor.scalar_type();
  if (type != wanted)
    fail(op, ": ", argument.name, " must be ", dtype_text(wanted), " like ", like.name, ", got ",
         dtype_text(type));
}

// For tensors that an update rule changes in place.
inline void check_plain(const char* op, const Argument& argument) {
  const Tensor& tensor = argument.tensor;
  if (tensor.scalar_type() != ScalarType::Float || !tensor.is_contiguous() || !tensor.is_cpu())
    fail(op, ": ", argument.name, " must be contiguous float32 tensors on the CPU");
}

// All tensors are floating point, on one device, and either all float64 or none.
inline void check_float(const char* op, std::initializer_list<Argument> arguments) {
  const Argument& first = *arguments.begin();
  for (const Argument& argument : arguments) {
    const ScalarType type = argument.tensor.scalar_type();
    if (type != ScalarType::Float && type != ScalarType::Double && type != ScalarType::BFloat16 &&
        type != ScalarType::Half)
      fail(op, ": ", argument.name, " must be float32, float64, bfloat16 or float16, got ",
           dtype_text(type));
  }
  for (const Argument& argument : arguments) {
    check_device(op, argument, first);
    if (first.tensor.scalar_type() == ScalarType::Double) check_dtype(op, argument, first);
    if (argument.tensor.scalar_type() == ScalarType::Double) check_dtype(op, first, argument);
  }
}

}  // namespace aligndraw
