"""The model beside figures that were computed by hand, and what must always hold."""

from itertools import pairwise

import pytest
from headrace_capacity.demand import rates, stay_seconds
from headrace_capacity.fit import Costs
from headrace_capacity.limits import Part
from headrace_capacity.load import Limits, Load, Plan, Prices
from headrace_capacity.measurement import Measurement, Service, Work
from headrace_capacity.model import Capacity, plan_for
from headrace_capacity.pods import open_uploads
from headrace_capacity.requests import SqsTraffic, jobs_per_batch, s3_writes_per_upload

#: A job a second on average, and a clip a second.
JOBS = Load(
    jobs_per_day=86_400,
    audio_peak_to_mean=1,
    reports_per_job=0,
    streams_per_job=0,
    analysis_cpu_seconds=0.996,
    analysis_seconds=2,
)
CAMERAS = Load(cameras=600, clip_every_seconds=600, clip_seconds=20, camera_peak_to_mean=1)
BARE = Plan(target_utilisation=0.5, safety_factor=1)


def part(capacity: Capacity, name: str) -> Part:
    (found,) = [each for each in capacity.parts if each.usage.name == name]
    return found


def test_rates_are_pieces_a_second() -> None:
    load = Load(
        jobs_per_day=86_400 * 2,
        audio_mib=3,
        audio_peak_to_mean=4,
        sqs_share=0.25,
        reports_per_job=5,
        analysis_seconds=30,
        cameras=1_200,
        camera_peak_to_mean=2,
    )
    mean, peak = rates(load, peak=False), rates(load, peak=True)
    assert mean[Work.UPLOAD] == pytest.approx(2)
    assert peak[Work.UPLOAD] == pytest.approx(8)
    assert peak[Work.UPLOAD_MIB] == pytest.approx(24)
    assert [peak[Work.JOB_SQS], peak[Work.JOB_HTTP]] == pytest.approx([2, 6])
    assert peak[Work.PROGRESS] == pytest.approx(40)
    assert peak[Work.HEARTBEAT] == pytest.approx(16)  # one every 15 s of 30
    assert peak[Work.PURGE] == mean[Work.PURGE] == pytest.approx(2)
    assert [mean[Work.CAMERA_JOB], peak[Work.CAMERA_JOB]] == pytest.approx([2, 4])
    assert peak[Work.CAMERA_SECOND] == pytest.approx(80)


def test_what_is_open_at_a_time_is_rate_times_stay() -> None:
    load = JOBS.model_copy(update={"streams_per_job": 2})
    open_streams = rates(load, peak=True)[Work.WATCHED_SECOND]
    assert open_streams == pytest.approx(2 * stay_seconds(load))
    # 2 MiB at 10 Mbit/s take 1.68 s.
    assert open_uploads(JOBS) == pytest.approx(2 * 2**20 * 8 / 10e6)


def test_pods_are_processor_time_over_what_a_pod_may_use(
    round_figures: Measurement, round_costs: Costs
) -> None:
    load = JOBS.model_copy(update={"jobs_per_day": 86_400 * 100})
    capacity = plan_for(load, round_figures, plan=BARE, costs=round_costs)
    # 100 uploads of 20 ms and 200 MiB of 4 ms are 2.8 cores; a pod may use 0.5, and idles for 0.05.
    assert capacity.need.pods[Service.INGEST].peak == 7
    assert capacity.need.pods[Service.INGEST].cores == pytest.approx(2.8 + 7 * 0.05)
    # 100 jobs of 10 ms are 1.0 core: 2.2 pods.
    assert capacity.need.pods[Service.DISPATCHER].peak == 3
    # 100 jobs of 1 s are 100 cores; of two cores a pod may use one, less 0.05.
    assert capacity.need.pods[Service.ANALYSIS].peak >= 106


def test_a_safety_factor_costs_as_much_as_more_work(
    round_figures: Measurement, round_costs: Costs
) -> None:
    safe = BARE.model_copy(update={"safety_factor": 2})
    twice = JOBS.model_copy(update={"jobs_per_day": 86_400 * 200})
    once = JOBS.model_copy(update={"jobs_per_day": 86_400 * 100})
    more = plan_for(twice, round_figures, plan=BARE, costs=round_costs).need.pods
    careful = plan_for(once, round_figures, plan=safe, costs=round_costs).need.pods
    assert more[Service.DISPATCHER].peak == careful[Service.DISPATCHER].peak > 2


def test_slots_of_live_clips_are_taken_for_their_length(
    round_figures: Measurement, round_costs: Costs
) -> None:
    two, eight = (
        plan_for(
            CAMERAS,
            round_figures,
            plan=Plan(camera_slots_per_pod=slots, slot_utilisation=0.999),
            costs=round_costs,
        ).need.pods[Service.PREPROCESSOR]
        for slots in (2, 8)
    )
    # 1 clip/s of 20 s and 1 s of work: 21 at a time, and some more so that none waits 10 s.
    assert two.because == "slots"
    assert 11 <= two.peak <= 15
    assert eight.peak == -(-two.peak * 2 // 8) or eight.peak == -(-(two.peak * 2 - 1) // 8)
    # 1 s + 20 x 0.05 s for a clip, and the safety factor.
    assert two.cores == pytest.approx(2.0 * 1.3 + 0.05 * two.peak)


def test_a_gpu_that_is_busy_asks_for_pods(round_figures: Measurement, round_costs: Costs) -> None:
    plan = Plan(gpu_seconds_per_clip=30, target_utilisation=0.5, safety_factor=1)
    found = plan_for(CAMERAS, round_figures, plan=plan, costs=round_costs)
    assert found.need.pods[Service.PREPROCESSOR].because == "GPU"
    assert found.need.pods[Service.PREPROCESSOR].peak == 60


def test_what_postgres_keeps_is_rows_over_the_retention(
    round_figures: Measurement, round_costs: Costs
) -> None:
    plan = Plan(retention_days=10)
    need = plan_for(JOBS, round_figures, plan=plan, costs=round_costs).need.postgres
    # A row of jobs, six events, one report; 864,000 jobs, and 1.3 for dead rows.
    a_job = 2_000 + 6 * 250 + 750
    assert need.kept_gb == pytest.approx(a_job * 864_000 * 1.3 / 1e9)
    # Two of each: 2 x 10 + 2 x 10 + 2 x 20, and two schedulers; or five of each.
    assert (need.connections, need.connections_seen) == (100, 40)


def test_postgres_writes_for_work_and_for_pods(
    round_figures: Measurement, round_costs: Costs
) -> None:
    need = plan_for(JOBS, round_figures, plan=BARE, costs=round_costs).need
    # 4 for the upload, 6 for the job; 2 a dispatcher, and 1 whatever there is.
    assert need.pods[Service.DISPATCHER].peak == 2
    assert need.postgres.writes == pytest.approx(4 + 6 + 2 * 2 + 1)
    assert need.postgres.wal_bytes == pytest.approx(20_000 * 2)


def test_redis_holds_the_backlog(round_figures: Measurement, round_costs: Costs) -> None:
    plan = Plan(backlog_minutes=10, safety_factor=1)
    jobs = plan_for(JOBS, round_figures, plan=plan, costs=round_costs).need.redis
    assert jobs.backlog_mib == pytest.approx(500 * 600 / 2**20)
    clips = plan_for(CAMERAS, round_figures, plan=plan, costs=round_costs).need.redis
    assert clips.backlog_mib == pytest.approx(300 * 600 / 2**20)
    # What is done stays for a minute, until it is trimmed.
    assert clips.memory_mib - clips.backlog_mib == pytest.approx(16 + 300 * 60 / 2**20)


def test_requests_to_sqs_counted_by_hand() -> None:
    traffic = SqsTraffic(jobs_per_second=2, dispatchers=2, results=2, analysis_servers=10)
    found = traffic.per_second()
    assert found["DeleteMessage"] == 2
    # One dispatcher sends one a second: hardly ever two within 5 ms.
    assert found["SendMessageBatch"] == pytest.approx(2 / 1.005)
    # Four a job, ten servers that wait a second each time less half a second for each message, two
    # results services every 5 s, and eight dead-letter queues every 14 s.
    assert found["ReceiveMessage"] == pytest.approx(8 + (10 - 1) + 0.4 + 8 / 14)
    assert found["GetQueueAttributes"] == pytest.approx(8 / 14 + 8 / 15 + 3 / 15)
    assert found["GetQueueUrl"] == pytest.approx(8 / 14)


def test_one_queue_for_all_lanes_is_asked_once_a_job_and_seldom_without() -> None:
    traffic = SqsTraffic(
        jobs_per_second=0.5, dispatchers=1, results=1, analysis_servers=10, lane_queues=1
    )
    # Ten servers wait for twenty seconds, ten of which each message saves.
    expected = 0.5 + (10 - 5) / 20 + 0.2 + 2 / 12
    assert traffic.per_second()["ReceiveMessage"] == pytest.approx(expected)


def test_batches_fill_with_the_rate_and_no_further_than_ten() -> None:
    assert jobs_per_batch(0) == 1
    assert jobs_per_batch(200) == pytest.approx(2)
    assert jobs_per_batch(1e6) == 10


def test_an_upload_is_one_request_or_its_parts() -> None:
    assert s3_writes_per_upload(8) == 1
    assert s3_writes_per_upload(16) == 4  # begun, two parts, completed
    assert s3_writes_per_upload(16.5) == 5


def test_money_by_hand(round_figures: Measurement, round_costs: Costs) -> None:
    load = JOBS.model_copy(update={"audio_mib": 10, "result_mib": 0})
    cloud = plan_for(load, round_figures, costs=round_costs).need.cloud
    prices = Prices(sqs_dollars_per_million=0.5, sqs_free_millions=1)
    assert cloud.sqs_dollars(prices) == pytest.approx((cloud.sqs_millions() - 1) * 0.5)
    month = 30 * 86_400
    writes = 2 + 2 + 2 + 2  # begun and completed, two parts, two results, two lists at the end
    kept_gb = month * 10 * 2**20 / 1e9
    expected = month / 1_000 * (writes * 0.005 + 0.0004) + kept_gb * 0.023
    assert cloud.s3_dollars(Prices()) == pytest.approx(expected)


def test_little_use_of_sqs_is_free(round_figures: Measurement, round_costs: Costs) -> None:
    cloud = plan_for(CAMERAS, round_figures, costs=round_costs).need.cloud
    assert cloud.sqs_dollars(Prices()) == 0


def test_more_load_never_needs_less(committed: Measurement) -> None:
    needs = [
        plan_for(Load(jobs_per_day=10**exponent, cameras=10 ** (exponent - 3)), committed).need
        for exponent in range(3, 8)
    ]
    for less, more in pairwise(needs):
        for service, pods in less.pods.items():
            assert pods.mean <= pods.peak <= more.pods[service].peak
        assert less.postgres.writes < more.postgres.writes
        assert less.postgres.kept_gb < more.postgres.kept_gb
        assert less.postgres.connections <= more.postgres.connections
        assert less.redis.memory_mib < more.redis.memory_mib
        assert less.cloud.sqs_millions() < more.cloud.sqs_millions()
        assert less.flows.films < more.flows.films


def test_a_part_runs_out_where_it_is_said_to(committed: Measurement) -> None:
    load = Load(jobs_per_day=1_000_000)
    capacity = plan_for(load, committed)
    for name in ("Postgres, disk", "Redis, memory", "Postgres, processor"):
        found = part(capacity, name)
        more = load.model_copy(update={"jobs_per_day": load.jobs_per_day * found.times})
        assert part(plan_for(more, committed), name).usage.share == pytest.approx(1, rel=0.05)


def test_the_first_part_to_go_is_the_one_with_the_lowest_limit(committed: Measurement) -> None:
    tight = Limits(redis_gib=0.02)
    capacity = plan_for(Load(jobs_per_day=1_000_000), committed, limits=tight)
    assert capacity.parts[0].usage.name == "Redis, memory"
    times = [each.times for each in capacity.parts]
    assert times == sorted(times)


def test_services_without_work_are_not_there(committed: Measurement) -> None:
    jobs = plan_for(Load(jobs_per_day=1_000), committed)
    cameras = plan_for(Load(cameras=10), committed)
    assert Service.PREPROCESSOR not in jobs.need.pods
    assert Service.ANALYSIS not in cameras.need.pods
    assert cameras.need.cloud.sqs_millions() == 0
