// A product whose factors do not fit, for test_failing_product.py.
#include <cstring>
#include <exception>

#include "gemm.h"

extern "C" void message_of_a_product(int64_t depth, char* text, int64_t room) {
  float numbers[16] = {};
  try {
    aligndraw::multiply(aligndraw::matrix(numbers, 2, 2),
                        aligndraw::matrix<const float>(numbers, 2, depth),
                        aligndraw::matrix<const float>(numbers, 3, 2));
  } catch (const std::exception& problem) {
    std::strncpy(text, problem.what(), size_t(room));
  }
}
