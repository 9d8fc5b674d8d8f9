"""Writes the shipped prometheus.yml with other addresses, given as JOB=ADDRESS,…, and a short interval. All else of its jobs
stays; those without an address are left out, and stack_left_out.txt says why."""

import sys

import yaml

FOLDER, *given = sys.argv[1:]
ADDRESSES = {job: addresses.split(",") for job, addresses in (word.split("=", 1) for word in given)}

with open(f"{FOLDER}/prometheus.yml", encoding="utf-8") as file:
    config = yaml.safe_load(file)
config["global"] |= {"scrape_interval": "2s", "scrape_timeout": "2s", "evaluation_interval": "2s"}
config["rule_files"] = [f"{FOLDER}/{pattern}" for pattern in config["rule_files"]]
config["alerting"]["alertmanagers"] = [{"static_configs": [{"targets": ADDRESSES["alertmanager"]}]}]
jobs = [job for job in config["scrape_configs"] if job["job_name"] in ADDRESSES]
for job in jobs:
    for key in ("static_configs", "dns_sd_configs"):
        job.pop(key, None)
    job["static_configs"] = [{"targets": ADDRESSES[job["job_name"]]}]
config["scrape_configs"] = jobs
if missing := set(ADDRESSES) - {job["job_name"] for job in jobs}:
    sys.exit(f"prometheus.yml has no job {', '.join(sorted(missing))}")
yaml.safe_dump(config, sys.stdout)
