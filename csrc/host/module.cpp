// aligndraw._host: work on training images that needs neither torch nor a device.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <stdexcept>
#include <string>

#include "paint.h"

namespace py = pybind11;

namespace {

void check_index(std::int64_t b, int which, std::int64_t value, std::int64_t count) {
  if (value >= 0 && value < count) return;
  throw std::invalid_argument((which ? "second[" : "first[") + std::to_string(b) + "] must be " +
                              (which ? "-1 for none or " : "") + "one of " + std::to_string(count) +
                              " digits, got " + std::to_string(value));
}

void check_position(const char* name, std::int64_t b, int which, std::int64_t value,
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
void place_digits(const std::uint8_t* digits, std::int64_t count, Size digit,
                  const std::int64_t* first, const std::int64_t* second, const std::int64_t* rows,
                  const std::int64_t* columns, std::uint8_t* canvas, std::int64_t batch,
                  Size size) {
  std::memset(canvas, 0, static_cast<std::size_t>(batch * size.height * size.width));
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
        std::memcpy(to, from, static_cast<std::size_t>(digit.width));
        from += digit.width;
        to += size.width;
      }
    }
  }
}

constexpr py::ssize_t any = -1;

// The argument as an array of T, C-contiguous and of the given sizes, or a ValueError.
template <typename T>
py::array_t<T> checked(const py::object& argument, const std::string& name,
                       const std::string& shape, std::initializer_list<py::ssize_t> sizes) {
  std::string got = py::cast<std::string>(py::type::of(argument).attr("__name__"));
  if (py::isinstance<py::array>(argument)) {
    const auto array = py::reinterpret_borrow<py::array>(argument);
    const bool contiguous = array.flags() & py::array::c_style;
    // Once false, no size is read: there may be fewer of them than dimensions.
    bool fits = array.ndim() == static_cast<py::ssize_t>(sizes.size());
    got = py::cast<std::string>(py::str(array.dtype())) + " [";
    for (py::ssize_t i = 0; i < array.ndim(); ++i) {
      got += (i ? ", " : "") + std::to_string(array.shape(i));
      fits = fits && (sizes.begin()[i] == any || sizes.begin()[i] == array.shape(i));
    }
    got += contiguous ? "]" : "], not contiguous";
    if (fits && contiguous && py::isinstance<py::array_t<T>>(array)) {
      return py::reinterpret_borrow<py::array_t<T>>(array);
    }
  }
  const auto dtype = py::cast<std::string>(py::str(py::dtype::of<T>()));
  throw py::value_error(name + " must be a C-contiguous " + dtype + " array " + shape + ", got " +
                        got);
}

py::array_t<std::uint8_t> composite(const py::object& digits_argument,
                                    const py::object& first_argument,
                                    const py::object& second_argument,
                                    const py::object& rows_argument,
                                    const py::object& columns_argument, std::int64_t height,
                                    std::int64_t width) {
  const auto digits =
      checked<std::uint8_t>(digits_argument, "digits", "[n, h, w]", {any, any, any});
  const auto first = checked<std::int64_t>(first_argument, "first", "[B]", {any});
  const py::ssize_t batch = first.shape(0);
  const std::string one = "[" + std::to_string(batch) + "]";
  const std::string two = "[" + std::to_string(batch) + ", 2]";
  const auto second = checked<std::int64_t>(second_argument, "second", one, {batch});
  const auto rows = checked<std::int64_t>(rows_argument, "rows", two, {batch, 2});
  const auto columns = checked<std::int64_t>(columns_argument, "columns", two, {batch, 2});

  const std::int64_t count = digits.shape(0);
  const Size digit{digits.shape(1), digits.shape(2)};
  const Size size{height, width};
  if (size.height < digit.height || size.width < digit.width) {
    throw py::value_error("the canvas must hold a digit of " + std::to_string(digit.height) + "x" +
                          std::to_string(digit.width) + ", got " + std::to_string(height) + "x" +
                          std::to_string(width));
  }

  py::array_t<std::uint8_t> canvas({batch, py::ssize_t{height}, py::ssize_t{width}});
  std::uint8_t* const target = canvas.mutable_data();
  {
    const py::gil_scoped_release release;
    place_digits(digits.data(), count, digit, first.data(), second.data(), rows.data(),
                 columns.data(), target, batch, size);
  }
  return canvas;
}

void check_picture(std::int64_t shape, std::int64_t picture, std::int64_t b, std::int64_t batch) {
  if (picture >= b && picture < batch) return;
  throw std::invalid_argument("shapes[" + std::to_string(shape) + "] must be of a picture in " +
                              std::to_string(b) + "…" + std::to_string(batch - 1) +
                              ", in their order, got " + std::to_string(picture));
}

void check_points(std::int64_t shape, std::int64_t first, std::int64_t count, std::int64_t points) {
  if (count >= 2 && first >= 0 && first <= points - count) return;
  throw std::invalid_argument("shapes[" + std::to_string(shape) + "] must be at least 2 of " +
                              std::to_string(points) + " points, got " + std::to_string(count) +
                              " from " + std::to_string(first) + " on");
}

// Pictures channels [batch, 3, H, W]: see aligndraw.data.painting.
void paint_all(const std::uint8_t* rows, const std::int16_t* points, std::int64_t point_count,
               const std::int64_t* shapes, std::int64_t shape_count, const std::uint8_t* colours,
               std::uint8_t* channels, std::int64_t batch, Size size) {
  if (batch == 0 && shape_count > 0) check_picture(0, shapes[0], 0, 0);
  aligndraw::Painting painting(size.height, size.width);
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

py::array_t<std::uint8_t> paint(const py::object& rows_argument, const py::object& points_argument,
                                const py::object& shapes_argument,
                                const py::object& colours_argument, std::int64_t width) {
  const auto rows = checked<std::uint8_t>(rows_argument, "rows", "[B, H, 3]", {any, any, 3});
  const auto points = checked<std::int16_t>(points_argument, "points", "[P, 2]", {any, 2});
  const auto shapes = checked<std::int64_t>(shapes_argument, "shapes", "[S, 3]", {any, 3});
  const py::ssize_t count = shapes.shape(0);
  const auto colours = checked<std::uint8_t>(colours_argument, "colours",
                                             "[" + std::to_string(count) + ", 3]", {count, 3});
  if (width < 1) {
    throw py::value_error("width must be at least 1, got " + std::to_string(width));
  }
  const py::ssize_t batch = rows.shape(0);
  const Size size{rows.shape(1), width};
  py::array_t<std::uint8_t> channels(
      {batch, py::ssize_t{3}, py::ssize_t{size.height}, py::ssize_t{width}});
  std::uint8_t* const target = channels.mutable_data();
  {
    const py::gil_scoped_release release;
    paint_all(rows.data(), points.data(), points.shape(0), shapes.data(), count, colours.data(),
              target, batch, size);
  }
  return channels;
}

}  // namespace

PYBIND11_MODULE(_host, m) {
  m.doc() = "Work on training images that needs neither torch nor a device.";
  m.def("composite", &composite, py::arg("digits"), py::arg("first"), py::arg("second"),
        py::arg("rows"), py::arg("columns"), py::arg("height"), py::arg("width"),
        "Canvases uint8 [B, H, W] of one or two digits: see\n"
        "aligndraw.data.compositing.composite_reference, the same in NumPy.");
  m.def("paint", &paint, py::arg("rows"), py::arg("points"), py::arg("shapes"), py::arg("colours"),
        py::arg("width"),
        "Pictures uint8 [B, 3, H, W] of flat shapes: see\n"
        "aligndraw.data.painting.paint_reference, the same in NumPy.");
}
