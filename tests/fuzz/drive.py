"""drive.py TARGET SECONDS CORPUS [NEW]: fuzzes a reader, guided by coverage; a find is written into the folder NEW."""

import sys
from pathlib import Path

import atheris

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
INSTRUMENTED = ["data", "text", "files", "json_files", "settings", "config", "training.expansion"]
with atheris.instrument_imports(include=["PIL", *(f"aligndraw.{name}" for name in INSTRUMENTED)]):
    import targets


def main():
    name, seconds, corpus, new = sys.argv[1:5]
    options = ["-max_len=4096", "-timeout=200", "-rss_limit_mb=3000", "-print_final_stats=1"]
    options += [f"-max_total_time={seconds}", f"-artifact_prefix={new}/"]
    atheris.Setup([sys.argv[0], *options, new, corpus], lambda data: targets.run(name, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
