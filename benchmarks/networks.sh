#!/usr/bin/env bash
# The paper's experiment with a network (its 7.3.2): two hidden layers of sigmoid units; how well each method, curvature
# and damping agrees with proximal, warm and cold retraining, beside the ceiling that the noise of cold retraining leaves.
#
#   benchmarks/networks.sh DATA RESULTS
#
# DATA is what `ginf train --data` takes; of a larger data set the first ROWS training rows are used. Writes
# RESULTS/table.md, RESULTS/networks.svg, the results of all commands and times.txt. The digits, in minutes:
#   ROWS=1438 benchmarks/networks.sh digits RESULTS
# A run that was cut off goes on where it stopped when it is started again.
set -euo pipefail
data=${1:?usage: $0 DATA RESULTS} results=${2:?usage: $0 DATA RESULTS}
ROWS=${ROWS:-10000}                          # training rows
HIDDEN=${HIDDEN:-16,16} L2=${L2:-1e-3}       # the network
DRAWS=${DRAWS:-20}                           # groups a size
SIZES=${SIZES:-2% 5% 10%}                    # random groups
COHERENT=${COHERENT:-2% 5%}                  # groups of one class, the classes in turn
TESTS=${TESTS:-misclassified:10}
STRATEGIES=${STRATEGIES:-proximal warm cold}
REPEATS=${REPEATS:-3}                        # seeds of the cold retraining
SETTINGS=${SETTINGS:-gauss-newton:0.01 gauss-newton:0.001 gauss-newton:0.0001 hessian:0.01 hessian:0.001 hessian:0}
SOLVER=${SOLVER:-auto}
here=$(dirname "$0") python=${PYTHON:-python}

mkdir -p "$results"
settings="$data ROWS=$ROWS HIDDEN=$HIDDEN L2=$L2 DRAWS=$DRAWS SIZES='$SIZES' COHERENT='$COHERENT' TESTS=$TESTS"
if [ "$(cat "$results/settings.txt" 2>/dev/null || echo "$settings")" != "$settings" ]; then
  echo "$0: $results was begun with $(cat "$results/settings.txt"): use another folder" >&2
  exit 2
fi
echo "$settings" > "$results/settings.txt"
took() { echo "$1: $SECONDS s" | tee -a "$results/times.txt" >&2; SECONDS=0; }

SECONDS=0 model=$results/model.h5
[ -e "$results/rows.npz" ] || "$python" "$here/networks.py" rows "$data" "$ROWS" "$results/rows.npz"
if [ ! -e "$model" ]; then
  ginf train --data "$results/rows.npz" --estimator mlp --hidden "$HIDDEN" --l2 "$L2" --solver "$SOLVER" -o "$model" \
    > "$results/model.txt"
  took train
fi
asked=(--model "$model" --test "$TESTS" --solver "$SOLVER")
for size in $SIZES; do asked+=(--group "random:${size}x$DRAWS"); done
for size in $COHERENT; do asked+=(--group "coherent:*:${size}x$DRAWS"); done

# 4: groups without a value (negative curvature, stalled); they are null, and compare says so.
for setting in $SETTINGS; do
  for evaluation in linear exact; do
    file=$results/${setting/:/_}_$evaluation.h5
    [ -e "$file" ] || ginf influence "${asked[@]}" --curvature "${setting%:*}" --damping "${setting#*:}" \
      --method first,second,newton --evaluate $evaluation -o "$file" > /dev/null || [ $? -eq 4 ]
    took "influence $setting $evaluation"
  done
done
for strategy in $STRATEGIES; do
  truth=$results/$strategy.h5 repeats=1
  [ "$strategy" = cold ] && repeats=$REPEATS
  ginf groundtruth "${asked[@]}" --retrain "$strategy" --repeats "$repeats" -o "$truth" --resume > /dev/null || [ $? -eq 4 ]
  took "groundtruth $strategy"
  for setting in $SETTINGS; do
    # The proximal objective has the model's own damping: other dampings answer another question.
    [ "$strategy" = proximal ] && [ "${setting#*:}" != 0.01 ] && continue
    for evaluation in linear exact; do
      ginf compare "$results/${setting/:/_}_$evaluation.h5" "$truth" --bootstrap 0 --format csv --quiet \
        > "$results/${strategy}_${setting/:/_}_$evaluation.csv"
    done
  done
done
"$python" "$here/networks.py" table "$results"
