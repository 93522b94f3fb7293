// Flat shapes painted on small pictures, with smooth edges: no Python, no torch.

#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace aligndraw {

constexpr std::int64_t unit = 64;                   // of coordinates, in a pixel
constexpr std::int64_t samples = 4;                 // in a pixel, along a row and along a column
constexpr std::int64_t spacing = unit / samples;    // from one sample to the next
constexpr std::int64_t first_sample = spacing / 2;  // coordinate of the first

// One picture at sixteen samples per pixel. All arithmetic is in whole numbers, so that every
// machine paints the same bytes.
class Painting {
 public:
  Painting(std::int64_t height, std::int64_t width)
      : height_(height),
        rows_(height * samples),
        columns_(width * samples),
        colours_(static_cast<std::size_t>(rows_ * columns_)) {}

  // Starts a picture whose rows have the colours rows [H, 3].
  void clear(const std::uint8_t* rows) {
    for (std::int64_t y = 0; y < height_; ++y) {
      const Colour colour{rows[3 * y], rows[3 * y + 1], rows[3 * y + 2]};
      const auto start = colours_.begin() + y * samples * columns_;
      std::fill(start, start + samples * columns_, colour);
    }
  }

  // The inside of the polygon of points [count, 2], x before y, by the even-odd rule.
  void polygon(const std::int16_t* points, std::int64_t count, const std::uint8_t* colour) {
    std::int64_t top = points[1], bottom = points[1];
    for (std::int64_t i = 1; i < count; ++i) {
      top = std::min<std::int64_t>(top, points[2 * i + 1]);
      bottom = std::max<std::int64_t>(bottom, points[2 * i + 1]);
    }
    for (std::int64_t row = sample_at(top, rows_); row < sample_at(bottom, rows_); ++row) {
      const std::int64_t y = first_sample + row * spacing;
      starts_.clear();
      for (std::int64_t i = 0; i < count; ++i) {
        Point a = point(points, i), b = point(points, (i + 1) % count);
        if ((a.y <= y) == (b.y <= y)) continue;
        if (a.y > b.y) std::swap(a, b);
        const std::int64_t rise = b.y - a.y;
        const std::int64_t over = a.x * rise + (y - a.y) * (b.x - a.x);  // crossing times rise
        starts_.push_back(std::clamp<std::int64_t>(
            ceiling(over - first_sample * rise, spacing * rise), 0, columns_));
      }
      std::sort(starts_.begin(), starts_.end());
      for (std::size_t i = 0; i + 1 < starts_.size(); i += 2) {
        fill(row, starts_[i], starts_[i + 1], colour);
      }
    }
  }

  // The inside and the rim of the ellipse about shape[0] with the half axes shape[1], x before y.
  void ellipse(const std::int16_t* shape, const std::uint8_t* colour) {
    const std::int64_t x = shape[0], y = shape[1], a = shape[2], b = shape[3];
    if (a <= 0 || b <= 0) return;
    for (std::int64_t row = sample_at(y - b, rows_); row < sample_at(y + b + 1, rows_); ++row) {
      const std::int64_t down = first_sample + row * spacing - y;
      const auto inside = [&](std::int64_t column) {
        const std::int64_t across = first_sample + column * spacing - x;
        return across * across * b * b + down * down * a * a <= a * a * b * b;
      };
      std::int64_t left = sample_at(x - a, columns_), right = sample_at(x + a + 1, columns_);
      while (left < right && !inside(left)) ++left;
      while (left < right && !inside(right - 1)) --right;
      fill(row, left, right, colour);
    }
  }

  // The mean colour of each pixel, rounded half up, as channels [3, H, W].
  void develop(std::uint8_t* channels) const {
    const std::int64_t width = columns_ / samples, size = height_ * width;
    for (std::int64_t pixel = 0; pixel < size; ++pixel) {
      const Colour* corner =
          colours_.data() + pixel / width * samples * columns_ + pixel % width * samples;
      int sums[3] = {};
      for (std::int64_t i = 0; i < samples * samples; ++i) {
        const Colour& colour = corner[i / samples * columns_ + i % samples];
        sums[0] += colour.red;
        sums[1] += colour.green;
        sums[2] += colour.blue;
      }
      constexpr int area = samples * samples;
      for (int c = 0; c < 3; ++c) {
        channels[c * size + pixel] = static_cast<std::uint8_t>((sums[c] + area / 2) / area);
      }
    }
  }

 private:
  struct Colour {
    std::uint8_t red, green, blue;
  };

  struct Point {
    std::int64_t x, y;
  };

  // A copy: another thread may write to the array meanwhile.
  static Point point(const std::int16_t* points, std::int64_t i) {
    return {points[2 * i], points[2 * i + 1]};
  }

  static std::int64_t ceiling(std::int64_t a, std::int64_t b) {  // of a / b, for b > 0
    return a / b + (a % b > 0);
  }

  // The first sample at or after a coordinate, in 0…count.
  static std::int64_t sample_at(std::int64_t coordinate, std::int64_t count) {
    return std::clamp<std::int64_t>(ceiling(coordinate - first_sample, spacing), 0, count);
  }

  void fill(std::int64_t row, std::int64_t start, std::int64_t end, const std::uint8_t* colour) {
    const auto line = colours_.begin() + row * columns_;
    if (start < end) std::fill(line + start, line + end, Colour{colour[0], colour[1], colour[2]});
  }

  std::int64_t height_, rows_, columns_;  // of pixels, and of samples
  std::vector<Colour> colours_;           // of the samples
  std::vector<std::int64_t> starts_;      // where a row of samples goes in and out of a polygon
};

}  // namespace aligndraw
