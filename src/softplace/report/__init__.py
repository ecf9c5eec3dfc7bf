"""Reports: plain records of numbers and words, and the page that is written of them.

What a place's training and a study say is of these records, so neither needs the other: places and the study both
import this package, and it imports neither.
"""
