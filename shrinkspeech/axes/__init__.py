"""What one position of a tensor's shape holds, and how two of them are made to agree. Knows no tensor library.

algebra.py    labels, products and sums; what can be read from them
unifier.py    two axes that an operator forces to agree are made the same, or frozen with the reason
"""
