from collections import deque

import pytest

import puna
from cli.tiny import write_tiny
from puna.errors import RequestError
from puna.generation import Answer, Chunk
from puna.worker.answers import Answers
from puna.worker.protocol import Ended, Failed, Frames, Spoken, frame, from_worker


class Talk:
    """Some answers, each saying a piece more with every step; a word that is an error goes wrong."""

    def __init__(self, *texts):
        self.said, self.ended, self.stepped = deque(), [], 0
        self.heard = [deque() for _ in texts]
        self.left = [deque(text.split()) for text in texts]
        self.answers = [Answer(lambda begun, i=i: self.pieces(i)) for i in range(len(texts))]

    def pieces(self, i):
        while self.left[i] or self.heard[i]:
            if not self.heard[i]:
                yield None
                continue
            if (word := self.heard[i].popleft()) == "wrong":
                raise RequestError("it went wrong")
            yield Chunk(word, done=not self.left[i])

    def step(self):
        self.stepped += 1
        for left, heard in zip(self.left, self.heard, strict=True):
            if left:
                heard.append(left.popleft())

    def run(self, steps, step=None):
        """Writes that so many steps come to; nothing runs by itself."""
        together = Answers(step or self.step, lambda messages: self.said.append(list(messages)), begin=False)
        for number, answer in enumerate(self.answers):
            together.begin(number, answer, self.ended.append)
        for _ in range(steps):
            together.advance()
        return list(self.said)


def words(message):
    return message.chunk.text if isinstance(message, Spoken) else message


def test_answers_go_on_together_and_a_step_is_written_at_once():
    talk = Talk("a b", "c d e")
    said = [[words(message) for message in messages] for messages in talk.run(4)]
    assert said == [["a", "c"], ["b", Ended(0), "d"], ["e", Ended(1)]]
    assert talk.ended == [0, 1]


def test_what_goes_wrong_in_one_answer_ends_no_other():
    talk = Talk("a wrong b", "c d")
    said = [[words(message) for message in messages] for messages in talk.run(3)]
    assert said == [["a", "c"], [Failed(0, "RequestError", "it went wrong"), "d", Ended(1)]]


def test_a_step_that_goes_wrong_ends_all_and_says_why():
    def step():
        raise MemoryError

    talk = Talk("a", "b")
    (messages,) = talk.run(1, step)
    assert [(type(message), message.number, message.kind) for message in messages] == [
        (Failed, 0, "MemoryError"),
        (Failed, 1, "MemoryError"),
    ]
    assert talk.ended == [0, 1]


def test_an_answer_that_is_cancelled_is_in_no_step_that_begins_later(tmp_path):
    model, said, ended = puna.load(write_tiny(tmp_path / "tiny.gguf")), [], []
    together = Answers(model.step, said.extend, begin=False)
    answers = [model.generate("\n", temperature=0, ignore_eos=True, num_predict=100) for _ in range(2)]
    for number, answer in enumerate(answers):
        together.begin(number, answer, ended.append)
    for _ in range(5):
        together.advance()
    answers[0].cancel()
    before = len(said)
    for _ in range(3):
        together.advance()
    first, second = ([message for message in said[before:] if message.number == number] for number in range(2))
    assert [type(message) for message in first] == [Spoken, Spoken, Ended]  # the latest step's token, and that it ended
    assert first[1].chunk.done_reason == "cancelled"
    assert first[1].chunk.stats.tokens == 5
    assert len(second) == 3
    assert ended == [0]


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_messages_are_the_same_however_their_bytes_are_cut(size):
    messages = [Spoken(1, Chunk("x" * 300)), Ended(1), Failed(2, "Bug", "words")]
    data = b"".join(map(frame, messages))
    frames = Frames()
    bodies = [body for at in range(0, len(data), size) for body in frames.push(data[at : at + size])]
    assert [from_worker.decode(body) for body in bodies] == messages
