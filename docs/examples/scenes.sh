#!/bin/sh
# From nothing to sharpened pictures and the paper's Tables 1 and 3, on scenes; docs/scenes.md says what each command does.
#
#   sh docs/examples/scenes.sh [FOLDER]
#
# Stopped, or when something failed, the same command goes on where it was.
set -eu
mkdir -p "${1:-scenes}"
cd "${1:-scenes}"

train() { # FOLDER SET OPTION...
    folder=$1 set=$2
    shift 2
    if [ -e "$folder/run.json" ]; then
        aligndraw train "$set" --out "$folder" --resume
    else
        aligndraw train "$set" "$@" --out "$folder"
    fi
}

[ -e scenes-data ] || aligndraw data scenes --out scenes-data --coco scenes-coco

train align scenes
train noalign scenes --model noalign
train skip skipthoughts --text scenes-data/train-captions.txt --words 200 --word-units 64 --units 128 --epochs 6 --learning-rate 2e-3
train skipthought scenes --model skipthought --sentences uni-skip:skip
train fc-vae scenes --model fc-vae
train conv-vae scenes --model conv-vae
train lapgan lapgan --data scenes-data --model align
train sharpener sharpener --data scenes-data --model align
train features features

caption="a large red bus is parked on the road under a blue sky"
models="alignDRAW=align noalignDRAW=noalign skipthoughtDRAW=skipthought Fully-Conn=fc-vae Conv-Deconv=conv-vae"
aligndraw sample "$caption" --model align -o bus.png
aligndraw sample "$caption" --model align --sharpen sharpener -o sharp-bus.png
aligndraw figures sharpening --model align --sharpen sharpener -o sharpening.png
aligndraw figures models --models $models LAPGAN=lapgan -o models.png
aligndraw tables --data scenes --model $models --lapgan lapgan --sharpen sharpener --features features -o tables
