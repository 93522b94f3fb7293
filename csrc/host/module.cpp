// aligndraw._host: work on training images that needs neither torch nor a device.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <initializer_list>
#include <string>

#include "pictures.h"

namespace py = pybind11;
using aligndraw::paint_all;
using aligndraw::place_digits;
using aligndraw::Size;

namespace {

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
