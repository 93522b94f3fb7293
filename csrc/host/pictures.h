// Training pictures from arrays: no Python, no torch. Every number of an array is checked before it
// is used as a place.

#pragma once

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "paint.h"

namespace aligndraw {

inline void check_index(std::int64_t b, int which, std::int64_t value, std::int64_t count) {
  if (value >= 0 && value < count) return;
  throw std::invalid_argument((which ? "second[" : "first[") + std::to_string(b) + "] must be " +
                              (which ? "-1 for none or " : "") + "a digit in 0…" +
                              std::to_string(count - 1) + ", got " + std::to_string(value));
}

inline void check_position(const char* name, std::int64_t b, int which, std::int64_t value,
                           std::int64_t last) {
  if (value >= 0 && value <= last) return;
  throw std::invalid_argument(std::string(name) + "[" + std::to_string(b) + ", " +
                              std::to_string(which) + "] must be in 0…" + std::to_string(last) +
                              ", got " + std::to_string(value));
}

struct Size {
  std::int64_t height, width;
};

// canvas [batch, H, W] shows digit first[b] of digits [count, h, w] on a blank ground, and digit
// second[b] over it unless that is -1. rows and columns [batch, 2] are their top left corners.
inline void place_digits(const std::uint8_t* digits, std::int64_t count, Size digit,
                         const std::int64_t* first, const std::int64_t* second,
                         const std::int64_t* rows, const std::int64_t* columns,
                         std::uint8_t* canvas, std::int64_t batch, Size size) {
  std::fill_n(canvas, batch * size.height * size.width, std::uint8_t{0});
  for (std::int64_t b = 0; b < batch; ++b) {
    for (int which = 0; which < 2; ++which) {
      // Each number is read once: the interpreter runs meanwhile, and may write to these arrays
      // between a check and a later read.
      const std::int64_t index = which ? second[b] : first[b];
      const std::int64_t top = rows[2 * b + which];
      const std::int64_t left = columns[2 * b + which];
      if (which && index == -1) continue;
      check_index(b, which, index, count);
      check_position("rows", b, which, top, size.height - digit.height);
      check_position("columns", b, which, left, size.width - digit.width);
      const std::uint8_t* from = digits + index * digit.height * digit.width;
      std::uint8_t* to = canvas + (b * size.height + top) * size.width + left;
      for (std::int64_t row = 0; row < digit.height; ++row) {
        std::copy_n(from, digit.width, to);
        from += digit.width;
        to += size.width;
      }
    }
  }
}

inline void check_picture(std::int64_t shape, std::int64_t picture, std::int64_t b,
                          std::int64_t batch) {
  if (picture >= b && picture < batch) return;
  throw std::invalid_argument("shapes[" + std::to_string(shape) + "] must be of a picture in " +
                              std::to_string(b) + "…" + std::to_string(batch - 1) +
                              ", in their order, got " + std::to_string(picture));
}

inline void check_points(std::int64_t shape, std::int64_t first, std::int64_t count,
                         std::int64_t points) {
  if (count >= 2 && first >= 0 && first <= points - count) return;
  throw std::invalid_argument("shapes[" + std::to_string(shape) +
                              "] must have 2 or more points in 0…" + std::to_string(points - 1) +
                              ", got " + std::to_string(count) + " from " + std::to_string(first) +
                              " on");
}

// Pictures channels [batch, 3, H, W]: see aligndraw.data.painting.
inline void paint_all(const std::uint8_t* rows, const std::int16_t* points,
                      std::int64_t point_count, const std::int64_t* shapes,
                      std::int64_t shape_count, const std::uint8_t* colours, std::uint8_t* channels,
                      std::int64_t batch, Size size) {
  if (batch == 0 && shape_count > 0) check_picture(0, shapes[0], 0, 0);
  Painting painting(size.height, size.width);
  std::int64_t shape = 0;
  for (std::int64_t b = 0; b < batch; ++b) {
    painting.clear(rows + 3 * b * size.height);
    for (; shape < shape_count; ++shape) {
      // Each number is read once, as above.
      const std::int64_t picture = shapes[3 * shape];
      const std::int64_t first = shapes[3 * shape + 1];
      const std::int64_t count = shapes[3 * shape + 2];
      check_picture(shape, picture, b, batch);
      if (picture > b) break;
      check_points(shape, first, count, point_count);
      if (count == 2) {
        painting.ellipse(points + 2 * first, colours + 3 * shape);
      } else {
        painting.polygon(points + 2 * first, count, colours + 3 * shape);
      }
    }
    painting.develop(channels + 3 * b * size.height * size.width);
  }
}

}  // namespace aligndraw
