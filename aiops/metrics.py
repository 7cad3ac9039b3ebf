"""The metric catalogue: every series that aiops itself writes or understands, one row each.

Names are base unit plus Prometheus suffix; what node_exporter already names keeps its name. `labels` are those besides
`node`, which the scrape adds. `side` and `bad` are for diagnosis: INTERNAL is the state of the thing itself, EXTERNAL what
a neighbour sees of it; `bad` is the direction (of a counter: of its rate) that hurts. This module knows no source and no
reader. A metric that is not here may still be stored: the catalogue describes, it does not forbid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class Kind(StrEnum):
    """How values relate over time; a counter only grows, except that it starts again at a restart."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


class Side(StrEnum):
    """Who sees it: the thing itself (its state), or those who use it (latency, waiting, rates)."""

    INTERNAL = "internal"
    EXTERNAL = "external"


class Bad(StrEnum):
    """Which direction hurts; NONE where neither does by itself (a busy GPU is good, an idle one may be too)."""

    UP = "up"
    DOWN = "down"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of the catalogue."""

    name: str
    kind: Kind
    unit: str
    help: str
    labels: tuple[str, ...] = ()
    side: Side = Side.INTERNAL
    bad: Bad = Bad.NONE


_G, _C, _H = Kind.GAUGE, Kind.COUNTER, Kind.HISTOGRAM
_I, _E = Side.INTERNAL, Side.EXTERNAL
_UP, _DOWN, _NONE = Bad.UP, Bad.DOWN, Bad.NONE
_GPU = ("gpu", "uuid")
_DISK = ("device",)
_NIC = ("device",)
_PORT = ("device", "port")
_MOUNT = ("device", "fstype", "mountpoint")
_NFS = ("export", "mountpoint")
_RANK = ("job_id", "run_id", "rank")

_GPU_ROWS = (
    Metric("gpu_up", _G, "", "1 where the GPU answers, 0 where it was seen before and is lost.", _GPU, _I, _DOWN),
    Metric("gpu_info", _G, "", "Always 1; labels describe the GPU.", (*_GPU, "model", "driver", "pci_bus_id", "mig_profile")),
    Metric("gpu_job_info", _G, "", "Always 1: a job that holds the GPU, or without one: nobody does.", (*_GPU, "hpc_job")),
    Metric("gpu_health_state", _G, "", "1 for the state that holds, else 0.", (*_GPU, "state"), _I, _NONE),
    Metric("gpu_utilization_ratio", _G, "ratio", "Share of time in which any kernel ran; coarse.", _GPU),
    Metric("gpu_engine_active_ratio", _G, "ratio", "Share of time in which the graphics or compute engine was active.", _GPU),
    Metric("gpu_sm_active_ratio", _G, "ratio", "Share of SMs that had a warp, averaged over time.", _GPU),
    Metric("gpu_sm_occupancy_ratio", _G, "ratio", "Resident warps over the most that fit.", _GPU),
    Metric("gpu_tensor_active_ratio", _G, "ratio", "Share of time in which tensor pipes were active.", _GPU),
    Metric("gpu_memory_bandwidth_active_ratio", _G, "ratio", "Share of time in which device memory moved data.", _GPU),
    Metric("gpu_encoder_utilization_ratio", _G, "ratio", "Share of time in which the video encoder was busy.", _GPU),
    Metric("gpu_decoder_utilization_ratio", _G, "ratio", "Share of time in which the video decoder was busy.", _GPU),
    Metric("gpu_memory_used_bytes", _G, "bytes", "Device memory in use.", _GPU),
    Metric("gpu_memory_total_bytes", _G, "bytes", "Device memory installed.", _GPU),
    Metric("gpu_memory_free_bytes", _G, "bytes", "Device memory free.", _GPU, _I, _DOWN),
    Metric("gpu_memory_reserved_bytes", _G, "bytes", "Device memory kept by driver and firmware.", _GPU),
    Metric("gpu_process_memory_bytes", _G, "bytes", "Device memory of one process.", (*_GPU, "pid")),
    Metric("gpu_power_watts", _G, "watts", "Board power, mean of about a second.", _GPU),
    Metric("gpu_power_limit_watts", _G, "watts", "Board power limit in force.", _GPU, _I, _DOWN),
    Metric("gpu_energy_joules_total", _C, "joules", "Energy used since the driver was loaded.", _GPU),
    Metric("gpu_temperature_celsius", _G, "celsius", "Temperature by sensor.", (*_GPU, "sensor"), _I, _UP),
    Metric("gpu_clock_hertz", _G, "hertz", "Clock by domain.", (*_GPU, "domain"), _I, _DOWN),
    Metric("gpu_fan_speed_ratio", _G, "ratio", "Fan speed over its nominal maximum.", _GPU),
    Metric("gpu_throttle_active", _G, "", "1 while clocks are held down for the reason.", (*_GPU, "reason"), _I, _UP),
    Metric("gpu_throttle_seconds_total", _C, "seconds", "Time with clocks held down, by reason.", (*_GPU, "reason"), _I, _UP),
    Metric("gpu_xid_errors_total", _C, "errors", "XID events seen by this daemon, by code.", (*_GPU, "xid"), _I, _UP),
    Metric("gpu_last_xid", _G, "", "Code of the latest XID event; not a count.", _GPU),
    Metric("gpu_ecc_errors_total", _C, "errors", "Memory errors by kind and scope.", (*_GPU, "kind", "scope"), _I, _UP),
    Metric("gpu_remapped_rows_total", _C, "rows", "Memory rows remapped after errors.", (*_GPU, "kind"), _I, _UP),
    Metric("gpu_row_remap_pending", _G, "", "1 where a remap awaits a GPU reset.", _GPU, _I, _UP),
    Metric("gpu_row_remap_failed", _G, "", "1 where a remap failed: replace the card.", _GPU, _I, _UP),
    Metric("gpu_pcie_bytes_total", _C, "bytes", "PCIe traffic.", (*_GPU, "direction"), _E, _NONE),
    Metric("gpu_pcie_bytes_per_s", _G, "bytes_per_s", "PCIe traffic over the last 20 ms.", (*_GPU, "direction"), _E, _NONE),
    Metric("gpu_pcie_replays_total", _C, "replays", "PCIe retransmissions.", _GPU, _I, _UP),
    Metric("gpu_nvlink_bytes_total", _C, "bytes", "NVLink payload.", (*_GPU, "direction", "link"), _E, _NONE),
    Metric("gpu_nvlink_bytes_per_s", _G, "bytes_per_s", "NVLink payload, all links.", (*_GPU, "direction"), _E, _NONE),
    Metric("gpu_nvlink_errors_total", _C, "errors", "NVLink errors, all links.", (*_GPU, "kind"), _I, _UP),
)

_HOST_ROWS = (
    Metric("node_cpu_seconds_total", _C, "seconds", "CPU time summed over all CPUs.", ("mode",)),
    Metric("node_cpu_count", _G, "cpus", "CPUs online."),
    Metric("node_load1", _G, "tasks", "Load average over a minute.", (), _I, _UP),
    Metric("node_load5", _G, "tasks", "Load average over five minutes.", (), _I, _UP),
    Metric("node_load15", _G, "tasks", "Load average over fifteen minutes.", (), _I, _UP),
    Metric("node_procs_running", _G, "tasks", "Tasks that run or want to.", (), _I, _UP),
    Metric("node_procs_blocked", _G, "tasks", "Tasks waiting for I/O.", (), _I, _UP),
    Metric("node_context_switches_total", _C, "switches", "Context switches."),
    Metric("node_boot_time_seconds", _G, "seconds", "Unix time of the last boot."),
    Metric("node_cpu_core_throttles_total", _C, "throttles", "Times that cores were slowed by heat.", (), _I, _UP),
    Metric("node_memory_MemTotal_bytes", _G, "bytes", "Memory installed."),
    Metric("node_memory_MemFree_bytes", _G, "bytes", "Memory used for nothing."),
    Metric("node_memory_MemAvailable_bytes", _G, "bytes", "Memory that could be had without swapping.", (), _I, _DOWN),
    Metric("node_memory_Cached_bytes", _G, "bytes", "Page cache."),
    Metric("node_memory_Buffers_bytes", _G, "bytes", "Block device buffers."),
    Metric("node_memory_Dirty_bytes", _G, "bytes", "Page cache waiting to be written.", (), _I, _UP),
    Metric("node_memory_Writeback_bytes", _G, "bytes", "Page cache being written.", (), _I, _UP),
    Metric("node_memory_Shmem_bytes", _G, "bytes", "Shared memory; data loaders live here."),
    Metric("node_memory_SwapTotal_bytes", _G, "bytes", "Swap space."),
    Metric("node_memory_SwapFree_bytes", _G, "bytes", "Swap space unused.", (), _I, _DOWN),
    Metric("node_vmstat_pgmajfault", _C, "faults", "Page faults that had to read.", (), _I, _UP),
    Metric("node_vmstat_oom_kill", _C, "kills", "Processes killed for memory.", (), _I, _UP),
    Metric("node_vmstat_pswpin", _C, "pages", "Pages swapped in.", (), _I, _UP),
    Metric("node_vmstat_pswpout", _C, "pages", "Pages swapped out.", (), _I, _UP),
    Metric("node_pressure_cpu_waiting_seconds_total", _C, "seconds", "Time with a task waiting for CPU.", (), _I, _UP),
    Metric("node_pressure_io_waiting_seconds_total", _C, "seconds", "Time with a task waiting for I/O.", (), _I, _UP),
    Metric("node_pressure_io_stalled_seconds_total", _C, "seconds", "Time with all tasks waiting for I/O.", (), _I, _UP),
    Metric("node_pressure_memory_waiting_seconds_total", _C, "seconds", "Time with a task waiting for memory.", (), _I, _UP),
    Metric("node_pressure_memory_stalled_seconds_total", _C, "seconds", "Time with all tasks waiting for memory.", (), _I, _UP),
    Metric(
        "cgroup_pressure_waiting_seconds_total", _C, "seconds", "As node_pressure, per cgroup.", ("cgroup", "resource"), _I, _UP
    ),
    Metric(
        "cgroup_pressure_stalled_seconds_total", _C, "seconds", "As node_pressure, per cgroup.", ("cgroup", "resource"), _I, _UP
    ),
)

_STORAGE_ROWS = (
    Metric("node_disk_reads_completed_total", _C, "operations", "Reads.", _DISK, _E, _NONE),
    Metric("node_disk_read_bytes_total", _C, "bytes", "Bytes read.", _DISK, _E, _NONE),
    Metric("node_disk_read_time_seconds_total", _C, "seconds", "Seconds of all reads together.", _DISK, _E, _UP),
    Metric("node_disk_writes_completed_total", _C, "operations", "Writes.", _DISK, _E, _NONE),
    Metric("node_disk_written_bytes_total", _C, "bytes", "Bytes written.", _DISK, _E, _NONE),
    Metric("node_disk_write_time_seconds_total", _C, "seconds", "Seconds of all writes together.", _DISK, _E, _UP),
    Metric("node_disk_io_now", _G, "operations", "I/Os in flight.", _DISK, _I, _UP),
    Metric("node_disk_io_time_seconds_total", _C, "seconds", "Time with any I/O in flight.", _DISK, _I, _UP),
    Metric("node_disk_io_time_weighted_seconds_total", _C, "seconds", "Queue length over time.", _DISK, _I, _UP),
    Metric("node_disk_discards_completed_total", _C, "operations", "Discards.", _DISK, _E, _NONE),
    Metric("node_disk_flush_requests_total", _C, "operations", "Flushes.", _DISK, _E, _NONE),
    Metric("node_disk_flush_requests_time_seconds_total", _C, "seconds", "Seconds of all flushes together.", _DISK, _E, _UP),
    Metric("node_filesystem_size_bytes", _G, "bytes", "Size of the file system.", _MOUNT),
    Metric("node_filesystem_free_bytes", _G, "bytes", "Free, for root.", _MOUNT, _I, _DOWN),
    Metric("node_filesystem_avail_bytes", _G, "bytes", "Free, for everybody.", _MOUNT, _I, _DOWN),
    Metric("node_filesystem_files", _G, "files", "Inodes.", _MOUNT),
    Metric("node_filesystem_files_free", _G, "files", "Inodes free.", _MOUNT, _I, _DOWN),
    Metric("node_filesystem_device_error", _G, "", "1 where the file system could not be asked in time.", _MOUNT, _I, _UP),
    Metric("node_mountstats_nfs_total_read_bytes_total", _C, "bytes", "Read from the server.", _NFS, _E, _NONE),
    Metric("node_mountstats_nfs_total_write_bytes_total", _C, "bytes", "Written to the server.", _NFS, _E, _NONE),
    Metric("node_mountstats_nfs_operations_requests_total", _C, "operations", "Requests.", (*_NFS, "operation"), _E, _NONE),
    Metric("node_mountstats_nfs_operations_transmissions_total", _C, "operations", "Sends.", (*_NFS, "operation"), _E, _NONE),
    Metric("node_mountstats_nfs_operations_major_timeouts_total", _C, "timeouts", "Time-outs.", (*_NFS, "operation"), _E, _UP),
    Metric("node_mountstats_nfs_operations_queue_time_seconds_total", _C, "seconds", "Wait.", (*_NFS, "operation"), _I, _UP),
    Metric("node_mountstats_nfs_operations_response_time_seconds_total", _C, "seconds", "RTT.", (*_NFS, "operation"), _E, _UP),
    Metric(
        "node_mountstats_nfs_operations_request_time_seconds_total", _C, "seconds", "Execute.", (*_NFS, "operation"), _E, _UP
    ),
    Metric("lustre_read_bytes_total", _C, "bytes", "Read by this client.", ("target",), _E, _NONE),
    Metric("lustre_write_bytes_total", _C, "bytes", "Written by this client.", ("target",), _E, _NONE),
    Metric("lustre_read_operations_total", _C, "operations", "Reads of this client.", ("target",), _E, _NONE),
    Metric("lustre_write_operations_total", _C, "operations", "Writes of this client.", ("target",), _E, _NONE),
    Metric("lustre_operations_total", _C, "operations", "Metadata operations.", ("target", "operation"), _E, _NONE),
)

_NETWORK_ROWS = (
    Metric("node_network_receive_bytes_total", _C, "bytes", "Received.", _NIC, _E, _NONE),
    Metric("node_network_transmit_bytes_total", _C, "bytes", "Sent.", _NIC, _E, _NONE),
    Metric("node_network_receive_packets_total", _C, "packets", "Received.", _NIC, _E, _NONE),
    Metric("node_network_transmit_packets_total", _C, "packets", "Sent.", _NIC, _E, _NONE),
    Metric("node_network_receive_errs_total", _C, "errors", "Errors in receiving.", _NIC, _I, _UP),
    Metric("node_network_transmit_errs_total", _C, "errors", "Errors in sending.", _NIC, _I, _UP),
    Metric("node_network_receive_drop_total", _C, "packets", "Dropped on receiving.", _NIC, _I, _UP),
    Metric("node_network_transmit_drop_total", _C, "packets", "Dropped on sending.", _NIC, _I, _UP),
    Metric("node_network_up", _G, "", "1 where the interface is operational.", _NIC, _I, _DOWN),
    Metric("node_network_carrier", _G, "", "1 where the cable has a partner.", _NIC, _I, _DOWN),
    Metric("node_network_speed_bytes", _G, "bytes_per_s", "Link speed in bytes per second.", _NIC, _I, _DOWN),
    Metric("node_infiniband_port_data_received_bytes_total", _C, "bytes", "Received.", _PORT, _E, _NONE),
    Metric("node_infiniband_port_data_transmitted_bytes_total", _C, "bytes", "Sent.", _PORT, _E, _NONE),
    Metric("node_infiniband_port_packets_received_total", _C, "packets", "Received.", _PORT, _E, _NONE),
    Metric("node_infiniband_port_packets_transmitted_total", _C, "packets", "Sent.", _PORT, _E, _NONE),
    Metric("node_infiniband_port_transmit_wait_total", _C, "ticks", "Ticks with data but no credit.", _PORT, _E, _UP),
    Metric("node_infiniband_port_errors_received_total", _C, "errors", "Errors in receiving.", _PORT, _I, _UP),
    Metric("node_infiniband_port_discards_received_total", _C, "packets", "Inbound packets dropped.", _PORT, _I, _UP),
    Metric("node_infiniband_port_discards_transmitted_total", _C, "packets", "Outbound packets dropped.", _PORT, _I, _UP),
    Metric("node_infiniband_symbol_error_total", _C, "errors", "Minor link errors.", _PORT, _I, _UP),
    Metric("node_infiniband_link_downed_total", _C, "events", "Times that the link failed.", _PORT, _I, _UP),
    Metric("node_infiniband_link_error_recovery_total", _C, "events", "Times that the link recovered.", _PORT, _I, _UP),
    Metric("node_infiniband_state_id", _G, "", "Logical state; 4 is active.", _PORT, _I, _DOWN),
    Metric("node_infiniband_physical_state_id", _G, "", "Physical state; 5 is link up.", _PORT, _I, _DOWN),
    Metric("node_infiniband_rate_bytes_per_second", _G, "bytes_per_s", "Signalling rate.", _PORT, _I, _DOWN),
    Metric("node_infiniband_np_cnp_sent_total", _C, "packets", "Congestion notices sent.", _PORT, _E, _UP),
    Metric("node_infiniband_rp_cnp_handled_total", _C, "packets", "Congestion notices obeyed.", _PORT, _E, _UP),
    Metric("node_infiniband_np_ecn_marked_roce_packets_total", _C, "packets", "Marked packets received.", _PORT, _E, _UP),
    Metric("node_infiniband_out_of_sequence_total", _C, "packets", "Packets out of order.", _PORT, _E, _UP),
    Metric("node_infiniband_packet_seq_err_total", _C, "packets", "NAKs for lost packets.", _PORT, _E, _UP),
    Metric("node_infiniband_local_ack_timeout_err_total", _C, "errors", "Acknowledgements that never came.", _PORT, _E, _UP),
)

_WORK_ROWS = (
    Metric("job_step_duration_seconds", _G, "seconds", "Mean of the latest steps, or age of a hanging one.", _RANK, _E, _UP),
    Metric("job_step_duration_seconds_count", _C, "steps", "Steps.", _RANK, _E, _DOWN),
    Metric("job_step_duration_seconds_sum", _C, "seconds", "Seconds of all steps.", _RANK, _E, _NONE),
    Metric("job_steps_total", _C, "steps", "Steps.", _RANK, _E, _DOWN),
    Metric("job_compute_seconds_total", _C, "seconds", "Computing.", _RANK, _I, _UP),
    Metric("job_data_wait_seconds_total", _C, "seconds", "Waiting for data.", _RANK, _E, _UP),
    Metric("job_comm_wait_seconds_total", _C, "seconds", "Waiting for other ranks.", _RANK, _E, _UP),
    Metric("job_cpu_wait_seconds_total", _C, "seconds", "Training thread ready to run, no CPU free.", _RANK, _E, _UP),
    Metric("job_checkpoint_seconds_total", _C, "seconds", "Writing checkpoints.", _RANK, _E, _NONE),
    Metric("job_samples_total", _C, "samples", "Samples trained on.", _RANK, _E, _DOWN),
    Metric("job_loader_queue_batches", _G, "batches", "Prefetched batches found ready.", _RANK, _I, _DOWN),
    Metric("job_knob_value", _G, "", "Knob in force.", (*_RANK, "knob")),
    Metric("job_gpus", _G, "gpus", "GPUs held.", ("job_id",)),
    Metric("job_gpu_seconds_total", _C, "seconds", "GPU time held.", ("job_id",)),
    Metric("job_gpu_idle_seconds_total", _C, "seconds", "GPU time held and unused.", ("job_id",), _E, _UP),
    Metric("job_energy_joules_total", _C, "joules", "Energy of the job's GPUs.", ("job_id",)),
    Metric("service_replicas", _G, "replicas", "Replicas wanted.", ("service",)),
    Metric("service_ready_replicas", _G, "replicas", "Replicas that serve.", ("service",), _I, _DOWN),
    Metric("service_restarts_total", _C, "replicas", "Replicas that ended by themselves.", ("service",), _I, _UP),
    Metric("service_requests_total", _C, "requests", "Requests that replicas received.", ("service",), _E),
    Metric("service_requests_per_second", _G, "requests/s", "Requests received per second: the load.", ("service",), _E),
    Metric("service_requests_in_flight", _G, "requests", "Requests waiting or worked on.", ("service",), _E),
    Metric("service_request_seconds", _G, "seconds", "Mean time to answer a request.", ("service",), _E, _UP),
    Metric("cluster_nodes", _G, "nodes", "Nodes by state.", ("state", "pool")),
    Metric("cluster_gpus", _G, "gpus", "GPUs by state.", ("state", "pool")),
    Metric("cluster_jobs", _G, "jobs", "Jobs by state.", ("state", "queue")),
    Metric("queue_wait_seconds", _H, "seconds", "Time from submission to start.", ("queue",), _E, _UP),
    Metric("node_gpus", _G, "gpus", "GPUs of a node, as its scheduler knows them.", ()),
    Metric("node_gpus_allocated", _G, "gpus", "Of these, given to jobs.", ()),
    Metric("queue_gpus_allocated", _G, "gpus", "GPUs given to a queue's jobs.", ("queue",)),
    Metric("slurm_scheduler_cycle_seconds", _G, "seconds", "Latest cycle of slurmctld's scheduler.", ("kind",), _I, _UP),
    Metric("slurm_scheduler_queue_jobs", _G, "jobs", "Jobs that its scheduler looked at.", (), _E, _NONE),
    Metric("slurm_agent_queue_requests", _G, "requests", "Messages that slurmctld could not yet deliver.", (), _I, _UP),
    Metric("slurm_server_threads", _G, "threads", "Threads that answer requests; 256 is the most.", (), _I, _UP),
    Metric("slurm_dbd_queue_messages", _G, "messages", "Not yet taken by slurmdbd.", (), _I, _UP),
)

_CLUSTER_ROWS = (
    Metric("pool_gpus", _G, "gpus", "Healthy GPUs of nodes that take work, and in use on cordoned ones.", ("pool",), _E, _NONE),
    Metric("pool_gpus_demanded", _G, "gpus", "GPUs held or waited for.", ("pool",), _E, _NONE),
    Metric("node_gpus_lost", _G, "gpus", "GPUs that the inventory knows and cannot reach; silent for none.", (), _E, _NONE),
    Metric("queue_gpus", _G, "gpus", "GPUs that the queue could hold now: its own and the idle ones.", ("queue",), _E, _NONE),
    Metric("queue_gpus_demanded", _G, "gpus", "GPUs held or waited for.", ("queue",), _E, _NONE),
    Metric("queue_jobs_waiting", _G, "jobs", "Jobs that wait for room.", ("queue",), _E, _NONE),
    Metric("queue_oldest_wait_seconds", _G, "seconds", "How long the oldest of them has waited.", ("queue",), _E, _NONE),
    Metric("link_capacity_bytes_per_s", _G, "bytes_per_s", "Capacity of a link as declared.", ("link",), _E, _NONE),
    Metric("link_traffic_bytes_per_s", _G, "bytes_per_s", "Traffic of a link, mean of a minute.", ("link",), _E, _NONE),
    Metric("volume_size_bytes", _G, "bytes", "Size of a volume.", ("volume",), _E, _NONE),
    Metric("volume_used_bytes", _G, "bytes", "What is on a volume.", ("volume",), _E, _NONE),
)

_OWN_ROWS = (
    Metric("aiops_collector_success", _G, "", "1 where the latest scrape worked.", ("collector",), _I, _DOWN),
    Metric("aiops_collector_duration_seconds", _G, "seconds", "How long the latest scrape took.", ("collector",), _I, _UP),
    Metric("aiops_collector_last_success_timestamp_seconds", _G, "seconds", "When it last worked.", ("collector",)),
    Metric("aiops_collector_skipped_total", _C, "scrapes", "Not started: the last still ran.", ("collector",), _I, _UP),
    Metric("aiops_collector_dropped_samples", _G, "samples", "Cut off by a limit.", ("collector",), _I, _UP),
    Metric("aiops_token_expires_in_seconds", _G, "seconds", "Until a token runs out; below 0 since.", ("token",), _I, _DOWN),
    Metric("aiops_token_lifetime_seconds", _G, "seconds", "How long a token was made to hold.", ("token",)),
    Metric("aiops_target_up", _G, "", "1 where the endpoint gave a whole answer.", ("target",), _I, _DOWN),
    Metric("aiops_collector_samples", _G, "samples", "Samples of the latest scrape.", ("collector",)),
    Metric("aiops_forecast_value", _G, "", "Forecast.", ("target", "horizon", "quantile")),
    Metric("aiops_forecast_age_seconds", _G, "seconds", "Age of the newest forecast.", ("target",), _I, _UP),
    Metric("aiops_forecast_abs_error_ratio", _G, "ratio", "Error of forecasts now due.", ("target",), _I, _UP),
    Metric("aiops_forecast_coverage_ratio", _G, "ratio", "Truths inside the 5-95 % band.", ("target",)),
    Metric("aiops_recommended_replicas", _G, "replicas", "What prescale would set.", ("target",)),
    Metric("aiops_decisions_total", _C, "decisions", "Decisions.", ("action", "reason", "mode")),
    Metric("aiops_notifications_failed_total", _C, "messages", "Not delivered.", ("integration", "reason"), _I, _UP),
    Metric("aiops_config_last_reload_successful", _G, "", "1 where the configuration in force is the file's."),
    Metric("aiops_build_info", _G, "", "Always 1; labels name the build.", ("version",)),
)

CATALOGUE: Mapping[str, Metric] = MappingProxyType(
    {
        row.name: row
        for rows in (_GPU_ROWS, _HOST_ROWS, _STORAGE_ROWS, _NETWORK_ROWS, _WORK_ROWS, _CLUSTER_ROWS, _OWN_ROWS)
        for row in rows
    }
)
"""All rows by name, in the order above."""


def find(name: str) -> Metric | None:
    """The row of a metric, or None where the catalogue does not know it."""
    return CATALOGUE.get(name)
