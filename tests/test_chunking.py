import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solovox.chunking import ChunkPlan, FloatArray, OverlapAdd

PLANS = st.integers(1, 40).flatmap(
    lambda chunk: st.builds(ChunkPlan, st.just(chunk), st.integers(0, chunk // 2))
)


def noise(samples: int, rows: int = 2) -> FloatArray:
    return np.random.default_rng(samples).standard_normal((rows, samples)).astype(np.float32)


def run(
    plan: ChunkPlan, audio: FloatArray, sizes: list[int], process=lambda chunk, index: chunk
) -> tuple[FloatArray, int]:
    """(output, the most chunks held at once) of a stream in blocks of `sizes`, over and over."""
    stream, out, held, start, turn = OverlapAdd(plan), [], 0, 0, 0
    while start < audio.shape[1]:
        size = sizes[turn % len(sizes)]
        chunks = stream.feed(audio[:, start : start + size])
        held = max(held, len(chunks))
        out += [stream.add(process(chunk, index)) for index, chunk in chunks]
        start, turn = start + size, turn + 1
    out += [stream.add(process(chunk, index)) for index, chunk in stream.end()]
    return np.concatenate(out, axis=1), held


@given(PLANS, st.integers(1, 300), st.lists(st.integers(1, 90), min_size=1, max_size=5))
def test_an_identity_gives_the_input_back_to_the_last_bit(plan, samples, sizes):
    audio = noise(samples)
    out, _ = run(plan, audio, sizes)
    np.testing.assert_array_equal(out, audio)


@given(PLANS, st.integers(1, 300))
def test_every_chunk_lies_where_the_plan_says(plan, samples):
    audio = noise(samples)
    seen = []

    def look(chunk, index):
        there = audio[:, index * plan.hop :][:, : plan.chunk]
        back = (0, plan.chunk - there.shape[1])
        np.testing.assert_array_equal(chunk, np.pad(there, ((0, 0), back), mode="symmetric"))
        seen.append(index)
        return chunk

    run(plan, audio, [17], look)
    assert seen == list(range(plan.count(samples)))


@given(PLANS, st.integers(1, 300), st.integers(1, 90))
def test_weights_sum_to_one_and_outer_edges_are_not_faded(plan, samples, size):
    ones = np.ones((1, samples), np.float32)
    # Chunks that differ by a constant show their weights in the sum.
    out, _ = run(plan, ones, [size], lambda chunk, index: np.full_like(chunk, index % 2))
    starts = [i * plan.hop for i in range(plan.count(samples))]
    for index, start in enumerate(starts):
        alone_from = start + (plan.overlap if index else 0)
        alone_to = starts[index + 1] if index + 1 < len(starts) else samples
        assert (out[0, alone_from:alone_to] == index % 2).all()
    assert ((out >= 0) & (out <= 1)).all()
    fade = plan.fade()
    np.testing.assert_allclose(fade + fade[::-1], 1, atol=1e-6)
    assert (np.diff(fade) > 0).all()


@given(PLANS, st.integers(1, 300), st.integers(1, 90))
def test_block_size_does_not_change_a_bit(plan, samples, size):
    audio = noise(samples)

    def process(chunk, index):
        return np.tanh(chunk * (1 + index)) + index

    whole, _ = run(plan, audio, [samples], process)
    parts, _ = run(plan, audio, [size], process)
    np.testing.assert_array_equal(whole, parts)


def test_rows_may_change_between_input_and_output():
    audio = noise(100)
    out, _ = run(ChunkPlan(30, 6), audio, [7], lambda chunk, _: np.concatenate((chunk, -chunk)))
    np.testing.assert_array_equal(out, np.concatenate((audio, -audio)))


def test_a_click_at_a_seam_is_faded_over_the_overlap():
    plan = ChunkPlan(1000, 200)
    out, _ = run(plan, noise(5000), [999], lambda chunk, index: np.full_like(chunk, index % 2))
    assert np.abs(np.diff(out)).max() < 1.6 / plan.overlap  # a raised cosine's slope is at most π/2


@settings(max_examples=20)
@given(st.integers(1, 50), st.integers(1, 3000))
def test_a_block_gives_no_more_chunks_than_it_fills(size, samples):
    _, held = run(ChunkPlan(40, 8), noise(samples), [size])
    assert held <= -(-size // 32)


def test_what_is_held_does_not_grow():
    stream = OverlapAdd(ChunkPlan(64, 16))
    for _ in range(1000):
        for _, chunk in stream.feed(noise(50)):
            stream.add(chunk)
        assert stream._pending is not None
        assert stream._pending.base is None
        assert stream._pending.shape[1] <= 64


def test_the_callers_block_is_left_alone():
    block = np.ones((2, 8), np.float32)
    stream = OverlapAdd(ChunkPlan(16, 4))
    stream.feed(block)
    block[:] = 7
    (_, chunk) = stream.end()[0]
    assert (chunk[:, :8] == 1).all()


def test_nothing_in_nothing_out():
    assert OverlapAdd(ChunkPlan(16, 4)).end() == []
    assert ChunkPlan(16, 4).count(0) == 0


def test_plan_of_a_share():
    assert ChunkPlan.of(131072, 0.2) == ChunkPlan(131072, 26214)


def test_half_of_an_odd_chunk_is_rounded_down():
    assert ChunkPlan.of(65_535, 0.5).overlap == 32_767


@pytest.mark.parametrize(("chunk", "overlap"), [(0, 0), (10, 6), (10, -1)])
def test_impossible_plans_are_refused(chunk, overlap):
    with pytest.raises(ValueError, match="cannot overlap"):
        ChunkPlan(chunk, overlap)
