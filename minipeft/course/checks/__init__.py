"""The checks of the exercises, a file a lesson: functions that take the learner's answer.  check.NAME finds them."""
