# aligndraw with its command as the entry point:
#
#     docker build -t aligndraw .
#     docker run --rm -u "$(id -u)" -v "$PWD:/home/aligndraw" aligndraw sample "the digit 3 is on the left of the digit 8" -o pair.png
#
# TORCH is what pip installs first. "torch==2.13.0" is a CUDA build where pip's index has no other; pytorch.org
# names the index of the CPU builds: --build-arg TORCH="torch==2.13.0 --index-url ...".

FROM debian:bookworm-slim AS build
ARG TORCH="torch==2.13.0"
RUN apt-get update && apt-get install -y --no-install-recommends g++ python3-dev python3-venv
# The build reads torch's headers and links to it, without the libraries that it runs on.
RUN python3 -m venv /build && /build/bin/pip install --no-cache-dir --no-deps ${TORCH} && /build/bin/pip install --no-cache-dir "setuptools>=77,<82" pybind11
COPY . /source
RUN cd /source && ALIGNDRAW_BUILD_CPP=1 /build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels .

FROM debian:bookworm-slim
ARG TORCH="torch==2.13.0"
RUN apt-get update && apt-get install -y --no-install-recommends python3-venv && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/aligndraw && /opt/aligndraw/bin/pip install --no-cache-dir ${TORCH}
COPY --from=build /wheels /wheels
RUN /opt/aligndraw/bin/pip install --no-cache-dir /wheels/*.whl
RUN useradd --create-home aligndraw
USER aligndraw
WORKDIR /home/aligndraw
ENTRYPOINT ["/opt/aligndraw/bin/aligndraw"]
