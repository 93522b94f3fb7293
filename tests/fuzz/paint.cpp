// libFuzzer: pictures of shapes and of digits from any numbers, also those that must be refused. An
// array ends where nobody may read.
#include <stdexcept>

#include "bytes.h"
#include "host/pictures.h"

using namespace aligndraw;

namespace {

void shapes(Bytes& in) {
  const int64_t batch = in.number(0, 3), height = in.number(0, 9), width = in.number(1, 9);
  const int64_t points = in.number(0, 8), count = in.number(0, 6);
  const auto rows = in.array<uint8_t>(3 * batch * height, 0, 255);
  const auto colours = in.array<uint8_t>(3 * count, 0, 255);
  const auto places = in.array<int16_t>(2 * points, INT16_MIN, INT16_MAX);
  const auto listed = in.array<int64_t>(3 * count, -2, 10);
  auto channels = Bytes::zeros<uint8_t>(3 * batch * height * width);
  paint_all(rows.data(), places.data(), points, listed.data(), count, colours.data(),
            channels.data(), batch, {height, width});
}

void digits(Bytes& in) {
  const int64_t batch = in.number(0, 3), count = in.number(0, 3), h = in.number(0, 4),
                w = in.number(0, 4);
  const Size size{in.number(h, 9), in.number(w, 9)};
  const auto images = in.array<uint8_t>(count * h * w, 0, 255);
  const auto first = in.array<int64_t>(batch, -2, 4), second = in.array<int64_t>(batch, -2, 4);
  const auto rows = in.array<int64_t>(2 * batch, -2, 9),
             columns = in.array<int64_t>(2 * batch, -2, 9);
  auto canvas = Bytes::zeros<uint8_t>(batch * size.height * size.width);
  place_digits(images.data(), count, {h, w}, first.data(), second.data(), rows.data(),
               columns.data(), canvas.data(), batch, size);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Bytes in(data, size);
  try {
    in.number(0, 1) ? shapes(in) : digits(in);
  } catch (const std::invalid_argument&) {  // refused
  }
  return 0;
}
