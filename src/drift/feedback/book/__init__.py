"""The project's own phrase book: how people complain, approve and carry on, and the tasks they do it about.

Plain text, read by `expand`; the weights of the embedded labeller are fitted on it. None of it comes from chat logs,
and none of it is what the sandbox's users say.
"""
