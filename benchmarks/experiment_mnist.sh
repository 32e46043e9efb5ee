#!/usr/bin/env bash
# The paper's MNIST experiment (its Figure 2): random and coherent groups, a whole class among them, and how well each
# method's estimates of the change of misclassified test rows' losses agree with retraining, for several lambdas.
#
#   benchmarks/experiment_mnist.sh MNIST RESULTS
#
# MNIST is the folder of the four IDX files, or anything else that `ginf train --data` takes. Writes, for each lambda,
# RESULTS/LAMBDA/table.txt, table.csv, figure1.svg (estimate against truth) and figure2.svg (correlation against size).
# Settings, as variables; a small version, in seconds:
#   L2S=1e-3 DRAWS=4 SIZES="10% 36%" COHERENT="5%" TESTS=misclassified:3 \
#     benchmarks/experiment_mnist.sh sample_data/digits RESULTS
# A run that was cut off goes on where it stopped when it is started again.
set -euo pipefail
data=${1:?usage: $0 MNIST RESULTS} results=${2:?usage: $0 MNIST RESULTS}
L2S=${L2S:-1e-3 1e-2 1e-4 1e-5}                        # lambdas
DRAWS=${DRAWS:-40}                                     # groups a size
SIZES=${SIZES:-1.6% 5% 10% 20% 30% 36% 40% 50% 60%}    # random groups, shares of the training rows
COHERENT=${COHERENT:-1.6% 5% 9%}                       # groups of one class, the classes in turn; and every whole class
TESTS=${TESTS:-misclassified:20}                       # test rows
SEED=${SEED:-0}                                        # draws the groups
TRAIN=${TRAIN:---penalize-intercept}                   # so that the loss stays finite where a whole class is gone
FIGURE=${FIGURE:-svg}                                  # svg, png or pdf

mkdir -p "$results"
settings="DRAWS=$DRAWS SIZES='$SIZES' COHERENT='$COHERENT' TESTS=$TESTS SEED=$SEED TRAIN='$TRAIN'"
if [ "$(cat "$results/settings.txt" 2>/dev/null || echo "$settings")" != "$settings" ]; then
  echo "$0: $results was begun with $(cat "$results/settings.txt"): use another folder" >&2
  exit 2
fi
echo "$settings" > "$results/settings.txt"

groups=()
for size in $SIZES; do groups+=(--group "random:${size}x$DRAWS"); done
for size in $COHERENT; do groups+=(--group "coherent:*:${size}x$DRAWS"); done
groups+=(--group "coherent:*")
count=$((DRAWS * $(wc -w <<< "$SIZES $COHERENT") + 10))
echo "$settings: $count groups for each lambda of $L2S" >&2
echo "on 60,000 rows and two cores expect a minute of training and about $((count * 2 / 60)) minutes for each" >&2

made() { [ -e "$1" ] && echo "$1 exists" >&2; }
for l2 in $L2S; do
  here=$results/$l2 SECONDS=0
  mkdir -p "$here"
  model=$here/model.h5 truth=$here/truth.h5
  read -ra options <<< "$TRAIN"
  made "$model" || ginf train --data "$data" --l2 "$l2" "${options[@]}" -o "$model" --quiet > "$here/model.csv"
  asked=(--model "$model" "${groups[@]}" --test "$TESTS" --seed "$SEED")
  estimate() {  # FILE METHODS EVALUATION
    made "$1" || ginf influence "${asked[@]}" --method "$2" --evaluate "$3" -o "$1" > /dev/null || [ $? -eq 4 ]
    echo "$1: $SECONDS s" >&2
  }
  estimate "$here/orders.h5" first-koh,first,second,second-full linear
  estimate "$here/newton.h5" newton linear
  estimate "$here/exact.h5" newton exact
  estimate "$here/refined.h5" refined exact
  # 4: groups that stalled; they are left out, and compare says so.
  ginf groundtruth "${asked[@]}" -o "$truth" --resume > "$here/truth.csv" || [ $? -eq 4 ]
  echo "$truth: $SECONDS s" >&2

  everything=("$here"/{orders,newton,exact,refined,truth}.h5)
  ginf compare "${everything[@]}" --against first --format csv --plot "$here/figure2.$FIGURE" --figure curve --force \
    > "$here/table.csv"
  COLUMNS=170 ginf compare "${everything[@]}" --against first --format table --no-color --quiet > "$here/table.txt"
  ginf compare "$here"/{orders,truth}.h5 --format csv --plot "$here/figure1.$FIGURE" --figure scatter --force --quiet \
    > /dev/null
  cat "$here/table.txt"
done
