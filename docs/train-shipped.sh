#!/bin/sh
# Make the shipped model again: docs/train-shipped.sh DATA OUT
#
# DATA holds fer2013/train, fer2013/public-test, portraits and seed-photos, each with the folders
# happy/ and sad/; OUT is a new folder. It needs an installed moodsort (make install), Node 20 for the
# avatars and, on two cores without a GPU, four hours. What was interrupted goes on if it is started
# again.
set -eu
[ $# -eq 2 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 2; }
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
average() {
    model=$1
    shift
    [ -e "models/$model" ] || "$here/.venv/bin/python" "$here/docs/average.py" "$@" --out "models/$model"
}
# Portraits are named PERSON_NUMBER; all of one person's go to one side of the split.
on_faces() {
    "$@" fer2013 portraits drawn avatars --split 85/5/10 \
        --group-by '^(?!Training_|PublicTest_)(.+)_\d+'
}
on_faces train first --network compact --seed 1
on_faces train second --network lite0 --seed 1
on_faces train third --network compact --seed 1 --from models/first \
    --teacher models/first --teacher models/second
on_faces train fourth --network compact --seed 2 --epochs 24 --from models/third \
    --teacher models/third --teacher models/first
on_faces average thirds --from models/first:1 --from models/third:1 --from models/fourth:1
on_faces train fifth --network compact --seed 13 --epochs 20 --from models/first \
    --teacher models/thirds --teacher models/first --teacher models/third --teacher models/second
on_faces average faces --from models/fourth:4 --from models/third:3 --from models/fifth:3
train shipped seed-photos --network scene --seed 1 --split 60/30/10 --faces models/faces
