from __future__ import annotations

from edge_agent.chat.conversation import Conversation, Exchange
from edge_agent.generation.chat_messages import ChatFinished

END, STOPPED = ChatFinished("end"), ChatFinished("cancelled")


def answered(*exchanges: tuple[str, str]) -> Conversation:
    conversation = Conversation(None, {})
    for question, answer in exchanges:
        conversation.begin(question)
        conversation.add(question, answer, END)
    return conversation


def test_another_answer_takes_the_place_of_the_last_one() -> None:
    conversation = answered(("one", "1"), ("two", "2"))
    assert "two" == conversation.begin_again()
    conversation.begin("two")
    conversation.add("two", "zwei", END)
    assert [Exchange("one", "1"), Exchange("two", "zwei")] == conversation.exchanges


def test_an_answer_is_not_lost_to_another_try_that_fails_or_is_stopped_at_once() -> None:
    for conversation in (answered(("one", "1")), answered(("one", "1"))):
        conversation.begin_again()
        conversation.begin("one")
        conversation.fail()
        assert [Exchange("one", "1")] == conversation.exchanges
        conversation.begin_again()
        conversation.begin("one")
        conversation.add("one", "", STOPPED)
        assert [Exchange("one", "1")] == conversation.exchanges
        assert "one" == conversation.begin_again()


def test_a_stopped_answer_is_kept_as_far_as_it_came() -> None:
    conversation = answered(("one", "1"))
    conversation.begin_again()
    conversation.begin("one")
    conversation.add("one", "ei", STOPPED)
    assert [Exchange("one", "ei")] == conversation.exchanges


def test_a_question_without_an_answer_is_no_turn_but_can_be_asked_again() -> None:
    conversation = answered(("one", "1"))
    conversation.begin("two")
    conversation.fail()
    assert [Exchange("one", "1")] == conversation.exchanges
    assert "two" == conversation.begin_again()


def test_there_may_be_no_question_yet() -> None:
    assert answered().begin_again() is None
