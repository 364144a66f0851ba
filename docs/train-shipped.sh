#!/bin/sh
# Make the shipped model again: docs/train-shipped.sh DATA OUT
#
# DATA holds fer2013/train, portraits and seed-photos, each with the folders happy/ and sad/; OUT is a
# new folder. It needs an installed moodsort (make install) and, on two cores without a GPU, an hour.
# What was interrupted goes on if it is started again.
set -eu
[ $# -eq 2 ] || { sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 2; }
here=$(cd "$(dirname "$0")/.." && pwd)
data=$(cd "$1" && pwd)
mkdir -p "$2"
cd "$2"
if ! [ -e drawn ]; then
    ln -s "$data/fer2013/train" fer2013-train
    ln -s "$data/portraits" "$data/seed-photos" .
    out=$PWD
    (cd "$here" && .venv/bin/python -m tests.faces "$out/drawn" --count 600 --seed 7)
fi

train() {
    model=$1
    shift
    [ -e "models/$model" ] || "$here/.venv/bin/moodsort" train "$@" --out "models/$model" --resume
}
# Portraits are named PERSON_NUMBER; all of one person's go to one side of the split.
train faces fer2013-train portraits drawn --network compact --seed 1 --split 85/5/10 \
    --group-by '^(?!Training_)(.+)_\d+'
train shipped seed-photos --network scene --seed 1 --split 60/30/10 --faces models/faces
