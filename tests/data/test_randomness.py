"""Numbers that are functions of their address: against a plain SplitMix64, and as far as they look random."""

import pytest
import torch

from spacy_electra.data.rng import Purpose, mix, random_bits, random_uniform, row_keys

MASK_64 = (1 << 64) - 1


def splitmix64(x: int) -> int:
    """The finaliser of Steele, Lea and Flood (2014) on Python's unbounded whole numbers."""
    x = (x + 0x9E3779B97F4A7C15) & MASK_64
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK_64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK_64
    return x ^ (x >> 31)


def as_signed(x: int) -> int:
    return x - (1 << 64) if x >> 63 else x


@pytest.mark.parametrize("x", [0, 1, -1, 42, 2**63 - 1, -(2**63), 0x1234567890ABCDEF])
def test_mix_is_splitmix64(x: int) -> None:
    assert int(mix(torch.tensor(x))) == as_signed(splitmix64(x & MASK_64))


def test_splitmix64_gives_the_published_first_number_of_seed_zero() -> None:
    assert int(mix(torch.tensor(0))) & MASK_64 == 0xE220A8397B1DCDAF


def test_mix_gives_no_two_inputs_the_same_number() -> None:
    assert len(set(mix(torch.arange(-5000, 5000)).tolist())) == 10_000


def test_uniform_numbers_are_the_top_24_bits_of_the_hash_of_their_address() -> None:
    keys = row_keys(7, epoch=torch.tensor([2]), row=torch.tensor([5]))
    key = splitmix64(splitmix64(splitmix64(7) ^ 2) ^ 5)
    stream = splitmix64(key ^ splitmix64(Purpose.KEEP))
    expected = [((splitmix64(stream ^ place) & (MASK_64 >> 1)) >> 39) / 2**24 for place in range(4)]
    assert random_uniform(keys, Purpose.KEEP, 4)[0].tolist() == expected


def test_uniform_numbers_stay_within_zero_and_one() -> None:
    numbers = random_uniform(torch.arange(1000), Purpose.SAMPLE, 100)
    assert numbers.dtype == torch.float32
    assert 0.0 <= float(numbers.min()) < 1e-4
    assert 1 - 1e-4 < float(numbers.max()) < 1.0


@pytest.mark.parametrize("purpose", list(Purpose))
def test_uniform_numbers_fill_all_hundredths_evenly(purpose: Purpose) -> None:
    keys = row_keys(0, epoch=torch.zeros(1000, dtype=torch.int64), row=torch.arange(1000))
    counts = torch.histc(random_uniform(keys, purpose, 100), bins=100, min=0, max=1)
    chi_square = float(((counts - 1000) ** 2 / 1000).sum())
    assert 50 < chi_square < 161  # 99 degrees of freedom: outside with probability 2e-4


@pytest.mark.parametrize(("left", "right"), [(Purpose.POSITIONS, Purpose.KEEP), (Purpose.KEEP, Purpose.SAMPLE)])
def test_two_purposes_see_unrelated_numbers(left: Purpose, right: Purpose) -> None:
    keys = row_keys(0, epoch=torch.zeros(100, dtype=torch.int64), row=torch.arange(100))
    pair = torch.stack([random_uniform(keys, left, 100).flatten(), random_uniform(keys, right, 100).flatten()])
    assert abs(float(torch.corrcoef(pair)[0, 1])) < 0.04  # four standard errors of 10,000 pairs


@pytest.mark.parametrize("change", ["seed", "epoch", "row"])
def test_a_key_changes_with_every_part_of_its_address(change: str) -> None:
    address = {"seed": 3, "epoch": 4, "row": 5}
    first, second = (
        row_keys(parts["seed"], epoch=torch.tensor([parts["epoch"]]), row=torch.tensor([parts["row"]]))
        for parts in (address, {**address, change: 6})
    )
    assert first != second


def test_keys_of_many_epochs_and_rows_are_all_different() -> None:
    epoch, row = torch.meshgrid(torch.arange(100), torch.arange(100), indexing="ij")
    assert len(set(row_keys(0, epoch=epoch.flatten(), row=row.flatten()).tolist())) == 10_000


def test_the_first_numbers_do_not_depend_on_how_many_are_asked_for() -> None:
    keys = torch.tensor([11, 12])
    assert torch.equal(random_bits(keys, Purpose.SAMPLE, 5), random_bits(keys, Purpose.SAMPLE, 50)[:, :5])
