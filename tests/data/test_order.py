"""Which examples a step sees: a pure function of seed and epoch."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrjax.data import order
from lrjax.data.order import Orders


def epochs_of(orders, lane, epochs):
    """The examples of whole epochs: [epochs, examples used]."""
    steps = orders.steps_per_epoch
    return orders.rows(0, epochs * steps)[lane].reshape(epochs, -1)


@pytest.mark.parametrize("n", [1, 64, order.PAGE + 3])
def test_an_epoch_visits_every_example_once(n):
    epochs = epochs_of(Orders([0, 5], ["shuffle", "shuffle"], n=n, batch_size=1), lane=1, epochs=3)
    assert (np.sort(epochs, axis=1) == np.arange(n)).all()


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = Orders([0, 1], ["shuffle", "shuffle"], n=64, batch_size=1)
    first, second = epochs_of(orders, 0, 4), epochs_of(orders, 1, 4)
    for a in range(4):
        assert not (first[a] == second[a]).all()
        assert all(not (first[a] == first[b]).all() for b in range(a))


def test_a_lanes_order_is_a_function_of_its_seed_not_of_its_neighbours():
    alone = Orders([3], ["shuffle"], n=64, batch_size=4).rows(0, 30)[0]
    among = Orders([1, 3, 2], ["iid", "shuffle", "cyclic"], n=64, batch_size=4).rows(0, 30)[1]
    assert (alone == among).all()


def test_what_does_not_fill_a_batch_is_left_out_of_the_epoch():
    epochs = epochs_of(Orders([0], ["shuffle"], n=10, batch_size=4), lane=0, epochs=50)
    assert epochs.shape == (50, 8)
    assert all(len(set(epoch)) == 8 for epoch in epochs.tolist())
    assert set(epochs.ravel().tolist()) == set(range(10))


def test_cyclic_goes_round_and_iid_draws_with_replacement():
    orders = Orders([0, 0], ["cyclic", "iid"], n=100, batch_size=1)
    cyclic, iid = orders.rows(0, 250)[..., 0]
    assert (cyclic == np.arange(250) % 100).all()
    epoch = orders.rows(0, 100)[1, :, 0]
    assert 50 < len(set(epoch.tolist())) < 75  # 100 (1 - 1/e) of 100 draws are different
    assert iid.min() >= 0
    assert iid.max() < 100


def test_iid_epochs_differ():
    epochs = epochs_of(Orders([0], ["iid"], n=50, batch_size=1), 0, 2)
    assert not (epochs[0] == epochs[1]).all()


@settings(max_examples=40, deadline=None)
@given(data=st.data(), n=st.sampled_from([1, 12]), kind=st.sampled_from(["shuffle", "iid", "cyclic"]))
def test_rows_do_not_depend_on_where_a_run_was_cut(data, n, kind):
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(order, "PAGE", 40)  # a page ends every few epochs
        batch = data.draw(st.integers(1, n))
        whole = Orders([1, 2], [kind, "shuffle"], n=n, batch_size=batch).rows(0, 60)
        start = data.draw(st.integers(0, 59))
        count = data.draw(st.integers(1, 60 - start))
        fresh = Orders([1, 2], [kind, "shuffle"], n=n, batch_size=batch).rows(start, count)
    assert fresh.shape == (2, count, batch)
    assert (fresh == whole[:, start : start + count]).all()


def test_going_back_gives_the_same_rows():
    orders = Orders([0], ["shuffle"], n=order.PAGE // 2, batch_size=8)
    first = orders.rows(0, 10)
    orders.rows(5 * orders.steps_per_epoch, 10)
    assert (orders.rows(0, 10) == first).all()
