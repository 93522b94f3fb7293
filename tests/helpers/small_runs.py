"""The commands of pages, word for word, with smaller sizes after them: the last value of an option counts."""

NETWORK = "--steps 2 --encoder-units 6 --decoder-units 5 --latent-units 3 --language-units 4 --align-units 4"
RECIPE = "--epochs 1 --epoch-size 8 --batch-size 4 --kl-warmup 0 --validation-size 2"
VAE = "--hidden-units 8 --latent-units 3 --language-units 4"
# Added to the commands that begin so; the first beginning that fits counts.
SMALLER = {
    "data scenes": "--images 40",
    "data coco": "--validation 2 --test 2",
    "data folder": "--validation 2 --test 2",
    "train mnist --out paper --resume": "",
    "train mnist": f"{NETWORK} {RECIPE}",
    "train scenes --model fc-vae": f"{VAE} {RECIPE}",
    "train scenes --model conv-vae": f"--hidden-channels 2 --latent-units 3 --language-units 4 {RECIPE}",
    "train scenes --model skipthought": f"--steps 2 --encoder-units 6 --decoder-units 5 --latent-units 3 {RECIPE}",
    "train scenes --model noalign": f"{NETWORK.removesuffix(' --align-units 4')} {RECIPE}",
    "train scenes": f"{NETWORK} {RECIPE}",
    "train captioned": f"{NETWORK} {RECIPE}",
    "train end-to-end": RECIPE,
    "train skipthoughts": "--word-units 3 --units 4 --epochs 1",
    "train features": "--hidden-channels 2 --epochs 1 --epoch-size 128",
    "train lapgan": "--hidden-channels 2 --generator-units 8 --discriminator-units 8 --epochs 1 --batch-size 8",
    "train sharpener": "--hidden-channels 2 --epochs 1 --batch-size 8",
    "figures background": "-n 2 --images 20",
    "figures attention": "",
    "figures": "-n 2",
    "sample": "-n 2",
    "eval mnist": "-n 1 --images 4 --samples 2",
    "eval retrieval": "--images 6",
    "eval similarity": "--captions 4 -n 2",
    "eval": "--images 4 --samples 2",
    "tables": "--images 6 --drawn 2",
    "sharpen": "",
    "models": "",
}


def smaller(words):
    """Returns a command, without `aligndraw`, with smaller sizes after it."""
    beginning = next(b for b in SMALLER if " ".join(words).startswith(b))
    return [*words, *SMALLER[beginning].split()]
