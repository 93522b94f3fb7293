#!/usr/bin/env bash
# clang 16 accepts target_clones("arch=x86-64-v3", ...) and then never runs that version.
#
# Guess: a version named by a level of x86-64 serves like one named by a feature: a machine with AVX2 runs it.
# Behaviour of clang 16.0.6 (as ziglang 0.11.0 ships it): no warning, both versions are compiled, and the resolver of the
# level compares with 0 instead of a bit of the processor, so the default version runs. clang 18.1.6 (ziglang 0.13.0)
# runs the version of the level.
# Output seen: 16.0.6: avx2 runs "avx2", x86-64-v3 runs "default"; 18.1.6: avx2 runs "avx2", x86-64-v3 runs "arch_x86-64-v3".
#
# Needs a Linux machine with AVX2 and FMA, gcc to link, and nm.
set -euo pipefail
grep -qw avx2 /proc/cpuinfo && grep -qw fma /proc/cpuinfo || { echo "this machine has no AVX2: nothing to see"; exit 0; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
cat > clones.c <<'C'
#include <stdio.h>
#define SUM(name, version)                                            \
  __attribute__((target_clones(version, "default"))) int name(const int* a, int n) { \
    int sum = 0;                                                      \
    for (int i = 0; i < n; ++i) sum += a[i];                          \
    return sum;                                                       \
  }
SUM(by_feature, "avx2")
SUM(by_level, "arch=x86-64-v3")
int main(void) {
  const int a[] = {1, 2, 3, 4};
  if (by_feature(a, 4) != 10 || by_level(a, 4) != 10) return 1;
  printf("%lx %lx\n", (unsigned long)by_feature, (unsigned long)by_level);
  return 0;
}
C
served() {  # the version at an address: the symbol that nm shows there
  nm clones | awk -v at="$1" '{ sub(/^0+/, "", $1) } $1 == at && $2 == "T" { split($3, part, /\./); print part[2] }'
}
check() {  # ziglang version, what the level is to run
  python3 -m venv "venv-$1"
  "venv-$1/bin/pip" install --quiet --disable-pip-version-check "ziglang==$1"
  local version feature level
  version=$("venv-$1/bin/python" -m ziglang cc --version | head -n 1 | cut -d' ' -f1-3)
  "venv-$1/bin/python" -m ziglang cc -target x86_64-linux-gnu -O2 -c -fno-sanitize=all -o clones.o clones.c
  gcc -no-pie -o clones clones.o
  read -r feature level < <(./clones)
  feature=$(served "$feature") level=$(served "$level")
  echo "$version: avx2 runs \"$feature\", x86-64-v3 runs \"$level\""
  [ "$feature" = avx2 ] && [ "$level" = "$2" ] || { echo "this has changed"; exit 1; }
}
check 0.11.0 default
check 0.13.0 arch_x86-64-v3
