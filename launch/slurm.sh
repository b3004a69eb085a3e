#!/usr/bin/env bash
# A task of the array for each job. `python -m launch.jobs --target=slurm` fills in the names in double braces.
#SBATCH --job-name={{ name }}
#SBATCH --array={{ array }}
#SBATCH --time={{ time }}
#SBATCH --nodes={{ hosts }}
#SBATCH --ntasks-per-node=1
#SBATCH --output={{ root }}/logs/slurm-%A_%a.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:USR1@{{ ahead }}
{% if options %}
{{ options }}
{% endif %}
set -u

case "$SLURM_ARRAY_TASK_ID" in
{% if cases %}
{{ cases }}
{% endif %}
*) echo "there is no job $SLURM_ARRAY_TASK_ID" >&2 && exit 1 ;;
esac

{% if setup %}
{{ setup }}
{% endif %}
srun --kill-on-bad-exit=0 "${command[@]}" &
job=$!

# USR1 comes ahead of the time limit, and this task must queue itself again. TERM comes when Slurm preempts the task, which
# it then queues again by itself, or when somebody cancels it. Either way the job saves and ends with status 75.
woken=
requeue=
trap 'woken=1 requeue=1; kill -TERM "$job"' USR1
trap 'woken=1; kill -TERM "$job"' TERM
while :; do
  wait "$job"
  status=$?
  [[ -n $woken ]] || break
  woken=
done

if [[ $status == 75 && -n $requeue ]]; then
  scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
fi
exit "$status"
