#!/bin/sh
# Make the shipped model again: docs/train-shipped.sh DATA OUT
#
# DATA holds fer2013/train, fer2013/public-test, portraits and seed-photos, each with the folders
# happy/ and sad/; OUT is a new folder. It needs an installed moodsort (make install), Node 20 for the
# avatars, and a Python with Keras 3, JAX and Optax that sees a GPU, which JAX_PYTHON names: eight
# minutes there. Where that is another machine, take OUT/crops.npz to docs/face_training.py there and
# put what it writes into OUT/trained. The rest takes an hour on two cores. What was interrupted goes on
# if it is started again.
set -eu
[ $# -eq 2 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2; }
here=$(cd "$(dirname "$0")/.." && pwd)
data=$(cd "$1" && pwd)
mkdir -p "$2"
cd "$2"
if ! [ -e ready ]; then
    mkdir fer2013
    # FER2013's own division is kept: its PublicTest images are for testing alone.
    ln -s "$data/fer2013/train" fer2013/train
    ln -s "$data/fer2013/public-test" fer2013/test
    ln -s "$data/portraits" "$data/seed-photos" .
    out=$PWD
    (cd "$here" && .venv/bin/python -m tests.faces "$out/drawn" --count 150 --seed 7)
    (cd "$here/docs/avatars" && npm ci)
    node "$here/docs/avatars/draw.mjs" all-avatars --count 60 --seed 1 --size 96
    ln -s all-avatars/training avatars
    touch ready
fi

train() {
    model=$1
    shift
    [ -e "models/$model" ] || "$here/.venv/bin/moodsort" train "$@" --out "models/$model" --resume
}
# Portraits are named PERSON_NUMBER; all of one person's go to one side of the split.
on_faces() {
    "$@" fer2013 portraits drawn avatars --split 85/5/10 \
        --group-by '^(?!Training_|PublicTest_)(.+)_\d+'
}
script() {
    name=$1
    shift
    "$here/.venv/bin/python" "$here/docs/$name.py" "$@"
}
[ -e crops.npz ] || on_faces script face_crops --out crops.npz
[ -e trained/faces.keras ] || "${JAX_PYTHON:-python3}" "$here/docs/face_training.py" crops.npz trained
[ -e models/student ] || on_faces script face_bundle --weights trained/faces.keras --out models/student
on_faces train faces --network compact --seed 5 --epochs 14 --from models/student \
    --teacher models/student
train shipped seed-photos --network scene --seed 1 --split 60/30/10 --faces models/faces
