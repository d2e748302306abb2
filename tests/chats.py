"""A short chat in the messages of OpenAI's API: a question, a wrong answer, the complaint and a better answer."""

Q, A, WRONG, B = "What is 2+2?", "5", "That is wrong.", "4"


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def bot(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}
