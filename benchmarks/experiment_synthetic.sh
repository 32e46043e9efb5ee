#!/usr/bin/env bash
# The paper's synthetic experiment (its Figure 1): random groups of training rows, and how well each method's estimate of
# the change of a misclassified test row's loss agrees with retraining.
#
#   benchmarks/experiment_synthetic.sh RESULTS
#
# writes RESULTS/table.txt, table.csv, figure1.svg (estimate against truth) and figure2.svg (correlation against size).
# Settings, as variables: a small version is  DRAWS=4 SIZES="10% 36%" benchmarks/experiment_synthetic.sh RESULTS
# A run that was cut off goes on where it stopped when it is started again.
set -euo pipefail
results=${1:?usage: $0 RESULTS}
DRAWS=${DRAWS:-40}                                     # groups a size
SIZES=${SIZES:-1.6% 5% 10% 20% 30% 36% 40% 50% 60%}    # shares of the training rows
L2=${L2:-1e-3}                                         # lambda
TESTS=${TESTS:-misclassified:1}                        # test rows
SEED=${SEED:-0}                                        # draws the data and the groups
DRAWN=${DRAWN:-1.6% 20% 36% 60%}                       # sizes with a panel in figure1, where they are among SIZES
FIGURE=${FIGURE:-svg}                                  # svg, png or pdf

mkdir -p "$results"
settings="DRAWS=$DRAWS SIZES='$SIZES' L2=$L2 TESTS=$TESTS SEED=$SEED"
if [ "$(cat "$results/settings.txt" 2>/dev/null || echo "$settings")" != "$settings" ]; then
  echo "$0: $results was begun with $(cat "$results/settings.txt"): use another folder" >&2
  exit 2
fi
echo "$settings" > "$results/settings.txt"

groups=() drawn=()
for size in $SIZES; do
  groups+=(--group "random:${size}x$DRAWS")
  [[ " $DRAWN " != *" $size "* ]] || drawn+=(--group "random:${size}x$DRAWS")
done
[ ${#drawn[@]} -gt 0 ] || drawn=("${groups[@]}")
model=$results/model.h5 truth=$results/truth.h5
asked=(--model "$model" --test "$TESTS" --seed "$SEED" --quiet)
echo "$settings: $((DRAWS * $(wc -w <<< "$SIZES"))) groups; the full version takes about 10 seconds" >&2

made() { [ -e "$1" ] && echo "$1 exists" >&2; }
made "$model" || ginf train --data synthetic --l2 "$L2" --seed "$SEED" -o "$model" --quiet > "$results/model.csv"
estimate() {  # FILE METHODS EVALUATION GROUPS
  made "$1" || ginf influence "${asked[@]}" --method "$2" --evaluate "$3" -o "$1" "${@:4}" > /dev/null
}
estimate "$results/orders.h5" first-koh,first,second,second-full,newton linear "${groups[@]}"
estimate "$results/exact.h5" newton,refined exact "${groups[@]}"
estimate "$results/figure1.h5" first,second linear "${drawn[@]}"
# 4: groups that stalled; they are left out, and compare says so.
ginf groundtruth "${asked[@]}" "${groups[@]}" -o "$truth" --resume > /dev/null || [ $? -eq 4 ]

everything=("$results"/{orders,exact,truth}.h5)
ginf compare "${everything[@]}" --against first --format csv --plot "$results/figure2.$FIGURE" --figure curve --force \
  > "$results/table.csv"
COLUMNS=170 ginf compare "${everything[@]}" --against first --format table --no-color --quiet > "$results/table.txt"
ginf compare "$results"/{figure1,truth}.h5 --format csv --plot "$results/figure1.$FIGURE" --figure scatter --force \
  --quiet > /dev/null
cat "$results/table.txt"
