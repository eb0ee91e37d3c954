#!/bin/bash
#SBATCH --job-name=posters
#SBATCH --array=1-4
#SBATCH --cpus-per-task=1
#SBATCH --mem=512M
#SBATCH --signal=TERM@60
#SBATCH --requeue
exec flux-lora batch presets/posters.yaml -o "out/shard-$SLURM_ARRAY_TASK_ID" --shard auto --api-key-file ~/.wavespeed.key --max-cost 5
