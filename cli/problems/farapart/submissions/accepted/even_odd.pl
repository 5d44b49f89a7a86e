use strict;
use warnings;

my $n = <STDIN>;
my @order = ((grep { $_ % 2 } reverse 1 .. $n), (grep { $_ % 2 == 0 } reverse 1 .. $n));
print $n == 2 || $n == 3 ? "impossible\n" : "@order\n";
