#!/usr/bin/env bash
# The paper's experiment with a network (its 7.3.2): two hidden layers of sigmoid units; how well each method, curvature
# and damping agrees with proximal, warm and cold retraining, beside the ceiling that the noise of cold retraining leaves.
#
#   benchmarks/networks.sh DATA RESULTS
#
# DATA is what `ginf train --data` takes; of a larger data set the first ROWS training rows are used. Writes
# RESULTS/table.md, RESULTS/networks.svg, the results of all commands and times.txt (processor seconds). The digits:
#   ROWS=1438 HIDDEN=16,16 DRAWS=10 benchmarks/networks.sh digits RESULTS
# A run that was cut off goes on where it stopped when it is started again.
set -euo pipefail
data=${1:?usage: $0 DATA RESULTS} results=${2:?usage: $0 DATA RESULTS}
ROWS=${ROWS:-10000}                          # training rows
HIDDEN=${HIDDEN:-10,10} L2=${L2:-3e-3}       # the network
TOL=${TOL:-1e-6}                             # relative Newton decrement at which its training ends
DRAWS=${DRAWS:-8}                            # groups a size
SIZES=${SIZES-2% 5% 10% 30%}                 # random groups
COHERENT=${COHERENT-2% 5%}                   # groups of one class, the classes in turn
COLD_SIZES=${COLD_SIZES-10%} COLD_COHERENT=${COLD_COHERENT-5%}  # those of them that are retrained cold, which is dear
TESTS=${TESTS:-misclassified:8}
STRATEGIES=${STRATEGIES:-proximal warm cold}
REPEATS=${REPEATS:-2}                        # seeds of the cold retraining
SETTINGS=${SETTINGS:-hessian:0.01 gauss-newton:0.01 gauss-newton:0.001 hessian:0}  # the first is the paper's
SOLVER=${SOLVER:-cholesky}
here=$(dirname "$0") python=${PYTHON:-python}

mkdir -p "$results"
settings="$data ROWS=$ROWS HIDDEN=$HIDDEN L2=$L2 TOL=$TOL DRAWS=$DRAWS SIZES='$SIZES' COHERENT='$COHERENT' TESTS=$TESTS"
if [ "$(cat "$results/settings.txt" 2>/dev/null || echo "$settings")" != "$settings" ]; then
  echo "$0: $results was begun with $(cat "$results/settings.txt"): use another folder" >&2
  exit 2
fi
echo "$settings" > "$results/settings.txt"
spent=0
took() {  # processor seconds of the commands since the last call: on a shared machine the clock says little
  times > "$results/spent.txt"
  local now
  now=$(awk 'NR == 2 { split($1, t, /[ms]/); print t[1] * 60 + t[2] }' "$results/spent.txt")
  echo "$1: $(awk -v now="$now" -v spent="$spent" 'BEGIN { printf "%.0f", now - spent }') s" | tee -a "$results/times.txt" >&2
  spent=$now
}
groups() {  # of these random and coherent sizes, as options
  for size in $1; do echo "--group random:${size}x$DRAWS"; done
  for size in $2; do echo "--group coherent:*:${size}x$DRAWS"; done
}
set -f

model=$results/model.h5
[ -e "$results/rows.npz" ] || "$python" "$here/networks.py" rows "$data" "$ROWS" "$results/rows.npz"
if [ ! -e "$model" ]; then
  # The model's own factor is that of the exact Hessian: it makes warm retraining short.
  ginf train --data "$results/rows.npz" --estimator mlp --hidden "$HIDDEN" --l2 "$L2" --tol "$TOL" --curvature hessian --damping 0 \
    --solver "$SOLVER" -o "$model" > "$results/model.txt"
  took train
fi
if [ ! -e "$results/minimum.txt" ]; then
  minimum=$("$python" "$here/networks.py" minimum "$model")
  echo "$minimum" > "$results/minimum.txt"
  took minimum
fi
asked=(--model "$model" --test "$TESTS")

# 4: groups without a value (negative curvature, stalled); they are null, and compare says so.
for setting in $SETTINGS; do
  for evaluation in linear exact; do
    file=$results/${setting/:/_}_$evaluation.h5
    [ -e "$file" ] && continue
    ginf influence "${asked[@]}" $(groups "$SIZES" "$COHERENT") --curvature "${setting%:*}" --damping "${setting#*:}" \
      --solver "$SOLVER" --method first,second,newton --evaluate $evaluation -o "$file" > /dev/null || [ $? -eq 4 ]
    took "influence $setting $evaluation"
  done
done
truth() {  # name, settings to compare it with, and the options of ginf groundtruth
  local name=$1 compared=$2
  ginf groundtruth "${asked[@]}" --solver "$SOLVER" "${@:3}" -o "$results/$name.h5" --resume > /dev/null || [ $? -eq 4 ]
  took "groundtruth $name"
  for setting in $compared; do
    for evaluation in linear exact; do
      ginf compare "$results/${setting/:/_}_$evaluation.h5" "$results/$name.h5" --bootstrap 0 --format csv --quiet \
        > "$results/${name}_${setting/:/_}_$evaluation.csv"
    done
  done
}
for strategy in $STRATEGIES; do
  case $strategy in
    proximal)  # The damping is part of its objective.
      for setting in $SETTINGS; do
        [ "${setting%:*}" = gauss-newton ] || continue
        truth "proximal-${setting#*:}" "$setting" $(groups "$SIZES" "$COHERENT") --retrain proximal \
          --curvature gauss-newton --damping "${setting#*:}"
      done ;;
    warm) truth warm "$SETTINGS" $(groups "$SIZES" "$COHERENT") --retrain warm ;;
    cold)
      for size in $COLD_SIZES; do truth "cold-random-$size" "$SETTINGS" $(groups "$size" "") --retrain cold --repeats "$REPEATS"; done
      for size in $COLD_COHERENT; do truth "cold-coherent-$size" "$SETTINGS" $(groups "" "$size") --retrain cold --repeats "$REPEATS"; done ;;
  esac
done
"$python" "$here/networks.py" table "$results"
