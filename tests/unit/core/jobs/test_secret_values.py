"""Secrets are not shown, and words that only look like them are."""

import pytest

from leptond.core.jobs.secret_values import hide, secret_values


def test_secrets_are_known_by_the_names_of_their_variables():
    env = {
        "WANDB_API_KEY": "0123456789",
        "hf_token": "abcdefgh-long",
        "MY_PASSWD": "secret1",
        "AWS_SECRET_ACCESS": "zyxwvu",
        "HOME": "/home/ana",
        "PIN_TOKEN": "12345",
    }
    assert secret_values(env) == sorted(
        ["0123456789", "abcdefgh-long", "secret1", "zyxwvu"], key=len, reverse=True
    )


def test_of_two_values_the_one_that_holds_the_other_is_hidden_whole():
    values = secret_values({"A_TOKEN": "abcdef", "B_TOKEN": "abcdefghi"})
    assert hide("it is abcdefghi", values) == "it is ***"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://ana:pw@host/x", "https://***@host/x"),
        ("https://host/x?token=abcdef&page=2", "https://host/x?token=***&page=2"),
        ('{"password": "x", api_key="abcdef"}', '{"password": "x", api_key="***"}'),
        ("Authorization: Bearer abcdefgh.ijk", "Authorization: Bearer ***"),
        ("logged in with hf_abcdefghij", "logged in with ***"),
        ("key AKIAABCDEFGH is bad", "key *** is bad"),
        ("sk-abcdefgh1234", "***"),
    ],
)
def test_what_looks_like_a_secret_is_hidden_without_its_value_being_known(text, shown):
    assert hide(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "KeyError: 'token'",
        "the learning rate is basic",
        "https://host/a/b@c is a path",
        "key=abc",
        "task-abcdefghijk",
    ],
)
def test_other_texts_stay_as_they_are(text):
    assert hide(text) == text
