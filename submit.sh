#!/usr/bin/env bash
set -euo pipefail
set -m # the job gets a process group of its own, so that a signal reaches all of it

usage() {
  cat <<'HELP'
usage: ./submit.sh [--label | --retry] CONFIG [spark-submit options] [-- job arguments]

Runs `hybrid-batch run CONFIG` through spark-submit, with --label `hybrid-batch label CONFIG`, with --retry
`hybrid-batch retry RUN`: the URL of a finished run then stands in the place of CONFIG.

  ./submit.sh conf/demo.yaml
  ./submit.sh conf/nightly.yaml --master spark://host:7077 -- --date 2026-11-23 --limit 1000
  ./submit.sh --retry s3://bucket/answers/runs/night-2026-11-23-3fa9c1d2e4b5 -- --errors passing

--master     from the options, else spark.master of CONFIG
spark.conf   of CONFIG is handed over in a properties file that only you can read; options win over it

environment
  PYSPARK_PYTHON          Python of the executors; default: .venv/bin/python beside this script
  PYSPARK_DRIVER_PYTHON   Python of the driver; the same default
  SPARK_HOME              whose spark-submit to use when there is none in .venv
  HYBRID_BATCH_LOG_DIR    where Spark's own output goes; default: logs
HELP
}

fail() {
  printf 'error: %s\n' "$1" >&2
  exit 2
}

entry=run_batch.py
command=()
if [[ "${1:-}" == --label ]]; then
  entry=label_batch.py
  command=(--label)
  shift
elif [[ "${1:-}" == --retry ]]; then
  entry=retry_batch.py
  command=(--retry)
  shift
fi

case "${1:-}" in
  -h | --help) usage && exit 0 ;;
  "" | -*) usage >&2 && exit 2 ;;
esac

root="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
config="$1"
shift

options=()
job=()
master=""
while (($#)); do
  case "$1" in
    --) shift && job=("$@") && break ;;
    --master) master="${2:?--master needs a value}" ;;
    --master=*) master="${1#*=}" ;;
  esac
  options+=("$1")
  shift
done
# The job has to know its master too: on one machine it shares the cores out differently.
if [[ -n "$master" ]]; then job+=(--set "spark.master=\"$master\""); fi

python="$root/.venv/bin/python"
[[ -x "$python" ]] || python="$(command -v python3)" || fail "no Python found; run \`make setup\`"
export PYSPARK_PYTHON="${PYSPARK_PYTHON:-$python}"
export PYSPARK_DRIVER_PYTHON="${PYSPARK_DRIVER_PYTHON:-$python}"
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"

submit="$root/.venv/bin/spark-submit"
[[ -x "$submit" ]] || submit="${SPARK_HOME:-}/bin/spark-submit"
[[ -x "$submit" ]] || submit="$(command -v spark-submit)" || fail "no spark-submit in .venv, SPARK_HOME or PATH"

log_dir="${HYBRID_BATCH_LOG_DIR:-logs}"
mkdir -p "$log_dir"
log="$(cd "$log_dir" && pwd)/spark-$(date +%Y%m%d-%H%M%S)-$$.log"

properties="$(mktemp)"
trap 'rm -f "$properties"' EXIT
"$PYSPARK_DRIVER_PYTHON" -c 'from hybrid_batch.cli import main; main()' \
  spark-properties "$config" "$log" "${command[@]}" "${job[@]}" >"$properties"

printf "Spark's log: %s\n" "$log" >&2
"$submit" --properties-file "$properties" --load-spark-defaults "${options[@]}" \
  "$root/jobs/$entry" "$config" "${job[@]}" 2>>"$log" &
group=$!
interrupted=""
trap 'interrupted=130; kill -INT -- "-$group" 2>/dev/null || true' INT
trap 'interrupted=143; kill -TERM -- "-$group" 2>/dev/null || true' TERM

code=0
wait "$group" || code=$?
# A trapped signal ends `wait` early; the job is still putting its things away.
while kill -0 "$group" 2>/dev/null; do wait "$group" || code=$?; done

if [[ -n "$interrupted" ]]; then
  echo "interrupted; run the same command to resume" >&2
  exit "$interrupted"
fi
if ((code == 1)); then # not one of the job's own exit codes: spark-submit itself, or a defect
  grep -iE -m 3 '(error|exception)' "$log" >&2 || tail -n 3 "$log" >&2
fi
exit "$code"
