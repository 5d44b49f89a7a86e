read -r n
seq "$n"
