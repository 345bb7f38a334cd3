"""A homework on mappers and injection: thirteen exercises of lessons 5, 7 and 8 in one file, graded by pytest.

python -m notebooks.strip out/exercises                       # the file that students fill in: homework.py
python -m pytest notebooks/homework --student homework.py     # a student's grade, a line for each of the checks
"""

CHECKS = (
    *("attention_map", "attend"),  # lesson 5: the map that is injected, and what it is multiplied with
    *("switch", "edited_values", "inject", "mapper", "alpha", "blend"),  # lesson 7
    *("used", "refine", "reweight", "region", "local_blend"),  # lesson 8
)
